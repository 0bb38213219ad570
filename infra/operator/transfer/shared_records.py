"""Insert imported records that need no client: scopes, resources, authorization types, documents, passkeys.

So are blocked hosts. Existing records are kept.
"""

from chalicelib.clients import document_control
from chalicelib.clients.authorization_types import check_type
from chalicelib.clients.document_content import check_document
from chalicelib.clients.resources import check_resource, check_scope, insert_resource
from chalicelib.keys import signing
from chalicelib.protocol.authorization_type import AuthorizationType
from chalicelib.protocol.client_document import BLOCKED_HOSTS, BlockedHosts, ClientDocument, is_document_url
from chalicelib.protocol.own_scope import Scope
from chalicelib.protocol.passkey import Passkey
from chalicelib.protocol.resource import Resource
from chalicelib.protocol.resource_uris import normalize
from chalicelib.storage.store import Store
from infra.operator.transfer.json_lines import Record
from infra.operator.transfer.outcome import Outcome as Outcome
from infra.operator.transfer.passkey_records import insert_passkey


def insert_shared(
    store: Store, record: Scope | Resource | AuthorizationType | ClientDocument | BlockedHosts | Passkey
) -> Outcome:
    """Insert a scope, a resource, a type of authorization details, a document, blocked hosts, or a passkey.

    A document may be only the block of its URL. Raises InvalidClientMetadata, and ValueError for a passkey.
    """
    match record:
        case BlockedHosts():
            return _insert_blocked_hosts(store, record)
        case Passkey():
            return insert_passkey(store, record)
        case ClientDocument():
            return _insert_document(store, record)
        case Scope():
            return _insert_scope(store, record)
        case Resource():
            return _insert_resource(store, record)
        case AuthorizationType():
            return _insert_type(store, record)


def _insert_document(store: Store, document: ClientDocument) -> Outcome:
    if not is_document_url(document.document_id):
        return Outcome(problem=f"{document.document_id} cannot be the URL of a document")
    if store.resources.get(normalize(document.document_id)):
        return Outcome(problem=f"{document.document_id} is the URI of a resource")
    if document.redirect_uris or document.blocked_at is None:
        check_document(document, store.settings.open_client_scope)
    if document.expires_at <= store.now():
        return Outcome(problem="it has expired")
    if store.documents.insert(document):
        return Outcome(added=True)
    existing = store.documents.get(document.document_id)
    is_blocked = existing is not None and existing.blocked_at is not None
    same_state = is_blocked == (document.blocked_at is not None)
    if existing and existing.digest == document.digest and same_state:  # the times of another fetch may differ
        return Outcome(existing=existing)
    return Outcome(problem=f"the document {document.document_id} exists with other data and was not changed")


def _insert_blocked_hosts(store: Store, blocked: BlockedHosts) -> Outcome:
    if blocked.document_id != BLOCKED_HOSTS:
        return Outcome(problem=f"the document_id must be {BLOCKED_HOSTS!r}")
    new = blocked.hosts - document_control.read_blocked_hosts(store)
    for host in sorted(new):
        document_control.block(store, host)
    return Outcome(added=True) if new else Outcome(existing=blocked)


def _insert_scope(store: Store, scope: Scope) -> Outcome:
    check_scope(scope)
    if store.scopes.insert(scope):
        return Outcome(added=True)
    return _kept(scope, store.scopes.get(scope.scope), f"scope {scope.scope}")


def _insert_type(store: Store, type_: AuthorizationType) -> Outcome:
    check_type(type_)
    if type_.uri and store.resources.get(normalize(type_.uri)) is None:
        return Outcome(problem=f"the resource {type_.uri} of the type {type_.name} does not exist")
    if store.authorization_types.insert(type_):
        return Outcome(added=True)
    return _kept(type_, store.authorization_types.get(type_.resource_id), f"authorization type {type_.name}")


def _insert_resource(store: Store, resource: Resource) -> Outcome:
    check_resource(resource, signing.algorithms(store.settings))
    if insert_resource(store, resource):
        return Outcome(added=True)
    return _kept(resource, store.resources.get(resource.resource_id), f"resource {resource.uri}")


def _kept(record: Record, existing: Record | None, name: str) -> Outcome:
    """Return the outcome for a record that was there before: a problem, unless it is the same."""
    if existing == record:
        return Outcome(existing=existing)
    return Outcome(problem=f"the {name} exists with other data and was not changed")
