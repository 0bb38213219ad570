"""Registering and changing protected resources and scopes, for the operator's commands.

A resource needs a client only to introspect tokens: one whose client_id is its URI.
"""

from collections.abc import Callable, Collection

from chalicelib.clients.acr_values import is_acr
from chalicelib.clients.metadata import problem_with_resource_uri
from chalicelib.keys import signing
from chalicelib.protocol.client_document import is_document_url
from chalicelib.protocol.custom_claims import is_custom_claim
from chalicelib.protocol.errors import InvalidClientMetadata
from chalicelib.protocol.own_scope import DESTINATIONS, Scope
from chalicelib.protocol.resource import Resource
from chalicelib.protocol.resource_uris import normalize, spellings
from chalicelib.protocol.scopes import CLAIMS, MAX_SCOPE_TOKENS, SCOPE_TOKEN, SCOPES
from chalicelib.protocol.texts import is_printable
from chalicelib.settings import LIMITS
from chalicelib.storage.store import Store
from chalicelib.storage.table import Refused

MAX_SCOPE_CLAIMS = 50


def check_scope(scope: Scope) -> None:
    """Check a scope that the operator defines: its description and its claims. Raises InvalidClientMetadata."""
    if not SCOPE_TOKEN.fullmatch(scope.scope):
        raise InvalidClientMetadata("A scope must have 1 to 128 characters, without spaces or quotes (RFC 6749 3.3).")
    if scope.scope in SCOPES:
        raise InvalidClientMetadata(f"{scope.scope} is a standard scope: its description cannot be changed.")
    if not is_printable(scope.description):
        raise InvalidClientMetadata("The description must have 1 to 200 printable characters.")
    for claim in sorted(scope.claims):
        if claim == "sub" or not (claim in CLAIMS or is_custom_claim(claim)):
            raise InvalidClientMetadata(f"{claim} cannot be a claim that a scope releases.")
    if len(scope.claims) > MAX_SCOPE_CLAIMS:
        raise InvalidClientMetadata(f"A scope can release {MAX_SCOPE_CLAIMS} claims.")
    if not scope.claims_in <= {*DESTINATIONS}:
        raise InvalidClientMetadata(f"The claims_in must be among: {', '.join(DESTINATIONS)}.")
    if scope.acr is not None and not is_acr(scope.acr):
        raise InvalidClientMetadata("The acr must have 1 to 200 characters without spaces.")


def check_resource(resource: Resource, algorithms: Collection[str], issuer: str = "") -> None:
    """Check a resource. Raises InvalidClientMetadata.

    `algorithms`: those that this server can sign tokens with. `issuer`: of this server, whose URI is no resource's.
    """
    if problem := problem_with_resource_uri(resource.uri):
        raise InvalidClientMetadata(f"The URI {resource.uri} {problem}.")
    if resource.resource_id != normalize(resource.uri):
        raise InvalidClientMetadata(f"The resource_id of {resource.uri} must be {normalize(resource.uri)}.")
    if issuer and resource.resource_id == normalize(issuer):
        raise InvalidClientMetadata(f"{resource.uri} is the issuer, whose access tokens are for UserInfo.")
    if not is_printable(resource.name):
        raise InvalidClientMetadata("The name must have 1 to 200 printable characters.")
    tokens = resource.scope.split(" ") if resource.scope else []
    if len(tokens) > MAX_SCOPE_TOKENS or not all(SCOPE_TOKEN.fullmatch(token) for token in tokens):
        raise InvalidClientMetadata("The scope must be scope tokens separated by single spaces (RFC 6749 3.3).")
    if standard := [token for token in tokens if token in SCOPES]:
        raise InvalidClientMetadata(f"{standard[0]} is a standard scope, which is not of a resource.")
    (low, high), seconds = LIMITS["access_token_lifetime"], resource.access_token_lifetime
    if seconds is not None and not low <= seconds <= high:
        raise InvalidClientMetadata(f"The access_token_lifetime must be {low} to {high} seconds.")
    alg = resource.access_token_signed_response_alg
    if alg is not None and alg not in algorithms:
        raise InvalidClientMetadata("The access_token_signed_response_alg must be one of: " + ", ".join(algorithms))


def create_resource(
    store: Store,
    uri: str,
    name: str | None = None,
    *,
    scope: str = "",
    access_token_lifetime: int | None = None,
    access_token_signed_response_alg: str | None = None,
) -> Resource:
    """Check and store a resource, and return its record.

    `name`: by default that of the client whose client_id is its URI. Raises InvalidClientMetadata, also when there is a
    resource or a client with another spelling of the URI.
    """
    normal = spellings(normalize(uri))
    registered = [client for client in store.read(*map(store.clients.lookup, dict.fromkeys((uri, *normal)))) if client]
    same = next((client for client in registered if client.client_id == uri), None)
    if same is None and registered:
        other = registered[0].client_id
        raise InvalidClientMetadata(f"The client {other} exists, which is the same URI. Use this spelling.")
    if same is None and uri not in normal and not problem_with_resource_uri(uri):
        raise InvalidClientMetadata(f"Write the URI {uri} in its normal form: {normal[-1]}")
    if name is None and same is None:
        raise InvalidClientMetadata("A resource needs a name, unless a client with this client_id has one.")
    resource = Resource(
        resource_id=normalize(uri),
        uri=uri,
        name=name if name is not None else same.client_name if same else "",
        scope=scope,
        access_token_lifetime=access_token_lifetime,
        access_token_signed_response_alg=access_token_signed_response_alg,
    )
    check_resource(resource, signing.algorithms(store.settings), store.settings.issuer)
    if not insert_resource(store, resource):
        raise InvalidClientMetadata(f"A resource with the URI {uri}, or another spelling of it, already exists.")
    return resource


def insert_resource(store: Store, resource: Resource) -> bool:
    """Store a new resource, and delete the document of a client at its URI. Return False when there is one already.

    An ID token for such a client could be used as an access token for the resource. The document is not stored again:
    `clients.documents` does not accept it.
    """
    inserted = store.resources.insert(resource)
    # Also when the resource exists, because an earlier command may have ended before it did this.
    for uri in spellings(resource.uri):
        if is_document_url(uri):
            store.documents.delete(uri)
    return inserted


def update_resource(store: Store, resource: Resource, change: Callable[[Resource], Resource]) -> Resource:
    """Change a resource by a function of its record, and return the new record.

    The function is called again with the current record if another request has changed it. Raises
    InvalidClientMetadata, also when the resource no longer exists.
    """

    def change_and_check(current: Resource) -> Resource:
        changed = change(current)
        check_resource(changed, signing.algorithms(store.settings))
        return changed

    changed = store.amend(store.resources, resource, change_and_check)
    if isinstance(changed, Refused):
        raise InvalidClientMetadata(f"The resource {resource.uri} no longer exists.")
    return changed
