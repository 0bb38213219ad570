"""The check of the key sets at the `jwks_uri` of clients, as the server fetches them."""

from collections import defaultdict
from collections.abc import Iterator

from chalicelib.clients.key_sets import MAX_BYTES
from chalicelib.http.outbound import Undeliverable, get
from chalicelib.keys.client_keys import read_json, read_jwks
from chalicelib.protocol.key_set import key_set_id
from chalicelib.storage.store import Store
from infra.operator.doctor.findings import Finding
from infra.operator.terminal import time_text

_FIX = (
    "Serve a JWK Set there over https, with status 200, or register another address: `signet client update … "
    "--jwks-uri …`. For a private network, see SIGNET_OUTBOUND_NETWORKS."
)


def inspect(store: Store) -> Iterator[Finding]:
    """Yield a finding about each client whose key set cannot be used from this machine, or one about all of them."""
    clients_by_uri: dict[str, list[str]] = defaultdict(list)
    for client in store.clients.scan():
        if client.jwks_uri is not None and client.disabled_at is None:
            clients_by_uri[client.jwks_uri].append(client.client_id)
    problems = {}
    for uri, client_ids in sorted(clients_by_uri.items()):
        if problem := _problem(uri, store.settings.outbound_networks):
            detail = f"Its jwks_uri {uri} cannot be used from here: {problem}.{_copy(store, uri)}"
            problems.update(dict.fromkeys(client_ids, detail))
    for client_id, problem in sorted(problems.items()):
        yield Finding(f"client {client_id}", False, problem, _FIX)
    if clients_by_uri and not problems:
        yield Finding("client keys", True, f"The key sets at {len(clients_by_uri)} jwks_uri of clients can be used.")


def _copy(store: Store, uri: str) -> str:
    """Return what the server has of a key set that cannot be used from here."""
    if stored := store.key_sets.get(key_set_id(uri)):
        return f" The server fetched it at {time_text(stored.fetched_at)}, and uses this copy for a day."
    return ""


def _problem(uri: str, networks: tuple[str, ...]) -> str:
    """Return why a key set cannot be used, empty if it can."""
    try:
        read_jwks(read_json(get(uri, networks, at_most=MAX_BYTES)))
    except (Undeliverable, ValueError) as error:
        return str(error).rstrip(".") or type(error).__name__
    return ""
