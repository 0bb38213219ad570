"""OAuth Client ID Metadata Document, draft-ietf-oauth-client-id-metadata-document-02 (6 July 2026)."""

from tests.specifications.clauses.clause import Clause, Specification

SPECIFICATION = Specification(
    "Client ID Metadata Document",
    "OAuth Client ID Metadata Document (draft-ietf-oauth-client-id-metadata-document-02)",
    (
        Clause("3 a", "MUST", "The client_id is an https URL."),
        Clause("3 b", "MUST NOT", "It has no user information."),
        Clause("3 c", "MUST", "It has a path."),
        Clause("3 d", "MUST NOT", "It has no dot segments."),
        Clause("3 e", "MUST NOT", "It has no fragment."),
        Clause("3 f", "MUST", "URLs are compared as strings: another spelling is another client."),
        Clause(
            "3 g", "MUST", "A document at this URL describes the client.", note="Or the operator has pinned a copy."
        ),
        Clause("4 a", "MUST", "The client_id in the document is the URL that it was fetched from."),
        Clause("4 b", "MUST", "The document is served with status 200."),
        Clause("4.1 a", "MUST NOT", "It names no authentication method with a shared secret."),
        Clause("4.1 b", "MUST NOT", "It has no client_secret and no client_secret_expires_at."),
        Clause("4.1 c", "MUST NOT", "It has no private key."),
        Clause("4.2 a", "MUST", "Redirect URIs are required."),
        Clause(
            "4.2 b",
            "MUST",
            "The redirect URI of a request equals one in the document.",
            note="Except for the port of a loopback address (RFC 8252 section 7.3).",
        ),
        Clause("5 a", "SHOULD", "The server fetches the document of a client."),
        Clause("5 b", "SHOULD", "It fetches the document again from time to time."),
        Clause("5 c", "MUST", "Any other status than 200 is an error."),
        Clause("5 d", "MUST NOT", "Redirects are not followed."),
        Clause(
            "5.1",
            "SHOULD",
            "An authorization request is rejected if its document cannot be fetched.",
            note="Unless the server has a copy of the last 7 days.",
        ),
        Clause("5.2 a", "SHOULD", "A document is cached as long as its response says.", note="From a minute to a day."),
        Clause(
            "5.2 b",
            "MUST NOT",
            "Error responses are not cached.",
            note="A process waits 30 seconds before it tries again, and stores nothing.",
        ),
        Clause("5.2 c", "MUST NOT", "Documents that are not valid are not cached."),
        Clause("6", "MUST", "The metadata has client_id_metadata_document_supported."),
        Clause("7.1", "SHOULD", "A client_id that the server creates does not start with https://."),
        Clause(
            "7.2",
            "SHOULD",
            "A document is fetched when the operator registers its URL.",
            not_held="A copy is pinned because the server cannot fetch the document. `signet doctor` fetches those "
            "that are allowed by their URL.",
        ),
        Clause(
            "8.2 a",
            "MUST",
            "A client with private_key_jwt must authenticate.",
            note="Unless token_endpoint_auth_methods_supported in its document has none too. A client that has "
            "redeemed a code with its key must refresh with it.",
        ),
        Clause("8.2 b", "MUST", "It authenticates by a key of its document (RFC 7523 section 2.2)."),
        Clause("8.5 a", "SHOULD", "The document is fetched to inform the user."),
        Clause("8.5 b", "SHOULD", "The consent page shows the host of the client_id."),
        Clause(
            "8.6 a",
            "MUST NOT",
            "A document whose host has a special-use address is not fetched.",
            note="Except in the networks of SIGNET_OUTBOUND_NETWORKS.",
        ),
        Clause(
            "8.6 b", "MUST NOT", "The same holds for the key set at its jwks_uri, the only other URL that is fetched."
        ),
        Clause("8.6 c", "MUST NOT", "A loopback address is not fetched in production.", note="By default never."),
        Clause("8.6 d", "SHOULD", "Measures keep the server from requesting special-use addresses."),
        Clause("8.6 e", "SHOULD", "Only URLs with known schemes are fetched or used."),
        Clause("8.7", "SHOULD", "At most 5 kilobytes are read."),
        Clause(
            "8.8",
            "SHOULD",
            "A logo is fetched and cached before it is shown.",
            not_applicable="The logo of a document is never shown.",
        ),
        Clause("9.1", "SHOULD", "Caching keeps the website from learning of each authorization."),
    ),
    also=("4.3", "8.4"),
)
