"""The OpenID Foundation's conformance suite as a client, for its plans of FAPI 2.0.

Its variant: `private_key_jwt`, `dpop`, `plain_fapi`, `openid_connect`. It sends a new proof with each request to the
token endpoint and to the resource, here UserInfo; its clients have the profile fapi2.
"""

import secrets
from typing import Any

import jwt

from tests.support.assertions import KeyPair, key_pair, signed
from tests.support.browser import CHALLENGE, VERIFIER, Answer, Browser
from tests.support.fapi import fapi_client
from tests.support.proofs import PAR as PAR
from tests.support.proofs import TOKEN as TOKEN
from tests.support.proofs import userinfo, with_proof
from tests.support.site import Registered, Site

PREFIX = "fapi2-security-profile-final-"
HOME = "https://www.certification.openid.net/test/a/signet/callback"
KEY, OTHER = key_pair("ES256", "of the proofs"), key_pair("ES256", "another one")


class Suite:
    """The suite as a client: its two clients, each with a key of its own, and the user alice."""

    profile = "fapi2"

    def __init__(self, site: Site, browser: Browser):
        self.site, self.browser = site, browser
        self.keys: dict[str, KeyPair] = {}
        self.client, self.second = (self.register(key_pair("ES256", kid)) for kid in ("first", "second"))
        site.user("alice", claims={"name": "Alice Liddell", "email": "alice@example.com"})
        self.sent: dict[str, Any] = {}

    def register(self, pair: KeyPair) -> Registered:
        """Register a client with a key."""
        scope = "openid profile email offline_access"
        client = fapi_client(self.site, pair, self.profile, redirect_uris=[HOME], scope=scope)
        self.keys[client.id] = pair
        return client

    def agent(self, client: Registered | None = None) -> Browser:
        """Return what sends the requests of a client."""
        assert (client or self.client).record.profile == self.profile
        return self.browser

    def proof(self, path: str = TOKEN, **changes: Any) -> dict[str, str]:
        """Return the header field with a new proof of the suite's key."""
        return with_proof(self.site, path, **({"pair": KEY} | changes))

    def authentication(self, client: Registered | None = None, /, **changes: Any) -> dict[str, str]:
        """Return the parameters with a new client assertion."""
        client = client or self.client
        return signed(self.site, client, **({"pair": self.keys[client.id]} | changes))

    def parameters(self, client: Registered, **changes: Any) -> dict[str, Any]:
        """Return the parameters of an authorization request, as they are pushed; one of None is left out."""
        given: dict[str, Any] = {
            "client_id": client.id,
            "response_type": "code",
            "redirect_uri": HOME,
            "scope": "openid",
            "state": secrets.token_urlsafe(7),
            "nonce": secrets.token_urlsafe(7),
            "code_challenge": CHALLENGE,
            "code_challenge_method": "S256",
        }
        self.sent = {name: value for name, value in (given | changes).items() if value is not None}
        return self.sent

    def push(
        self,
        client: Registered | None = None,
        /,
        credentials: dict[str, str] | None = None,
        headers: dict[str, str] | None = None,
        **changes: Any,
    ) -> Answer:
        """Push an authorization request; a parameter of None is left out."""
        client = client or self.client
        parameters = self.parameters(client, **changes)
        if credentials is None:
            credentials = self.authentication(client)
        answer = self.agent(client).post(PAR, parameters | credentials, headers)
        if answer.status == 201:
            self.site.secrets.add(answer.json["request_uri"].rpartition(":")[2])
        return answer

    def pushed(self, client: Registered | None = None, /, **changes: Any) -> str:
        """Push a request that is accepted; return its reference, which is as the suite checks it."""
        answer = self.push(client, **changes)
        assert (answer.status, answer.header("cache-control")) == (201, "no-store"), answer.body
        assert 0 < answer.json["expires_in"] < 600
        uri = str(answer.json["request_uri"])
        assert uri.startswith("urn:ietf:params:oauth:request_uri:")
        assert len(uri) > 60, "the suite measures its entropy"
        return uri

    def open(self, uri: str, client: Registered | None = None, **more: Any) -> Answer:
        """Open the authorization endpoint with a reference."""
        return self.browser.get("/oauth2/authorize", client_id=(client or self.client).id, request_uri=uri, **more)

    def answer(self, page: Answer, decision: str = "allow_once", client: Registered | None = None) -> dict[str, str]:
        """Sign in and decide; return the verified parameters of the response."""
        if "password" in page.form.fields:
            page = self.browser.sign_in(page)
        answer = self.browser.submit(page, decision=decision) if page.form.action else page
        assert answer.status == 303
        assert answer.location.startswith(f"{HOME}?"), answer.location
        given = self.verified(answer, client or self.client)
        assert given["iss"] == self.site.settings.issuer
        assert given.get("state") == self.sent.get("state")
        return given

    def verified(self, answer: Answer, client: Registered) -> dict[str, str]:
        """Return the parameters of an authorization response to a client."""
        assert client.record.profile == self.profile
        return answer.answer

    def authorize(self, client: Registered | None = None, /, **changes: Any) -> str:
        """Push a request and answer it; return the code."""
        return self.answer(self.open(self.pushed(client, **changes), client), client=client)["code"]

    def token(
        self,
        client: Registered | None = None,
        /,
        credentials: dict[str, str] | None = None,
        headers: dict[str, str] | None = None,
        **parameters: Any,
    ) -> Answer:
        """Send a token request, by default with a proof; a parameter of None is left out."""
        if credentials is None:
            credentials = self.authentication(client)
        given = {name: value for name, value in parameters.items() if value is not None}
        return self.agent(client).post(TOKEN, given | credentials, self.proof() if headers is None else headers)

    def redeem(self, code: str, client: Registered | None = None, /, **changes: Any) -> Answer:
        """Redeem a code."""
        form = {"grant_type": "authorization_code", "code": code, "redirect_uri": HOME, "code_verifier": VERIFIER}
        return self.token(client, **(form | changes))

    def flow(self, client: Registered | None = None, /, **changes: Any) -> dict[str, Any]:
        """Complete the whole flow; return the tokens."""
        answer = self.redeem(self.authorize(client, **changes), client)
        assert (answer.status, answer.header("cache-control")) == (200, "no-store"), answer.body
        assert answer.json["token_type"] == "DPoP"
        return answer.json

    def resource(self, token: str, **changes: Any) -> Answer:
        """Request the resource with an access token and a proof."""
        return userinfo(self.browser, token, **({"pair": KEY} | changes))

    def id_token(self, tokens: dict[str, Any]) -> dict[str, Any]:
        """Verify an ID token; return its claims."""
        keys = jwt.PyJWKSet.from_dict(self.browser.get("/oauth2/jwks").json)
        claims: dict[str, Any] = jwt.decode(
            tokens["id_token"],
            keys[jwt.get_unverified_header(tokens["id_token"])["kid"]],
            algorithms=["PS256", "ES256", "EdDSA"],
            issuer=self.site.settings.issuer,
            options={"verify_aud": False, "require": ["exp", "iat", "sub", "aud"]},
        )
        assert claims.get("nonce") == self.sent.get("nonce")
        return claims


def is_rejected(answer: Answer, *errors: str) -> bool:
    """Return whether a request of a client was rejected with one of these errors, as JSON without a redirect."""
    status = 401 if answer.json["error"] == "invalid_client" else 400
    return (answer.status, answer.header("location"), answer.json["error"] in errors) == (status, None, True)


def is_error_page(answer: Answer) -> bool:
    """Return whether the user sees an error, and nothing is redirected: the suite asks for a screenshot of it."""
    return (answer.status, answer.header("location"), "password" in answer.form.fields) == (400, None, False)
