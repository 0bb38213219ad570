"""The check of the key sets at the `jwks_uri` of clients, as the server fetches them."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from chalicelib.clients.key_sets import MAX_BYTES
from chalicelib.http.outbound import Undeliverable, get
from chalicelib.keys.client_keys import read_json, read_jwks
from chalicelib.protocol.client import Client
from chalicelib.protocol.fapi import explain, find_deviations
from chalicelib.protocol.key_set import key_set_id
from chalicelib.storage.store import Store
from infra.operator.doctor.findings import Finding
from infra.operator.terminal import time_text

_FIX = (
    "Serve a JWK Set there over https, with status 200, or register another address: `signet client update … "
    "--jwks-uri …`. For a private network, see SIGNET_OUTBOUND_NETWORKS."
)
_PROFILE_FIX = "Serve a key for PS256, ES256 or EdDSA there, and let the application sign with it."


def inspect(store: Store) -> Iterator[Finding]:
    """Yield a finding about each client whose key set cannot be used from this machine, or one about all of them.

    The keys of a client with a profile of FAPI 2.0 must also be for its algorithms.
    """
    clients_by_uri: dict[str, list[Client]] = defaultdict(list)
    for client in store.clients.scan():
        if client.jwks_uri is not None and client.disabled_at is None:
            clients_by_uri[client.jwks_uri].append(client)
    problems: list[Finding] = []
    for uri, clients in clients_by_uri.items():
        try:
            keys = read_jwks(read_json(get(uri, store.settings.outbound_networks, at_most=MAX_BYTES)))
        except (Undeliverable, ValueError) as error:
            problem = str(error).rstrip(".") or type(error).__name__
            detail = f"Its jwks_uri {uri} cannot be used from here: {problem}.{_copy(store, uri)}"
            problems += [_finding(client, detail, _FIX) for client in clients]
        else:
            problems += [_finding(each, text, _PROFILE_FIX) for each in clients for text in _deviations(each, keys)]
    yield from sorted(problems, key=lambda finding: finding.name)
    if clients_by_uri and not problems:
        yield Finding("client keys", True, f"The key sets at {len(clients_by_uri)} jwks_uri of clients can be used.")


def _finding(client: Client, detail: str, fix: str) -> Finding:
    return Finding(f"client {client.client_id}", False, detail, fix)


def _deviations(client: Client, keys: dict[str, Any]) -> Iterator[str]:
    """Yield how the keys at its jwks_uri make a client deviate from its profile; its record is checked elsewhere."""
    if client.profile:
        own = find_deviations(client, client.profile)
        for each in find_deviations(replace(client, jwks=keys), client.profile):
            if each not in own:
                yield explain(replace(each, problem=f"{each.problem} ({client.jwks_uri})"), client.profile) + "."


def _copy(store: Store, uri: str) -> str:
    """Return what the server has of a key set that cannot be used from here."""
    if stored := store.key_sets.get(key_set_id(uri)):
        return f" The server fetched it at {time_text(stored.fetched_at)}, and uses this copy for a day."
    return ""
