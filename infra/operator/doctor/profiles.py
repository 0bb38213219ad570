"""The check of the clients that have a profile of FAPI 2.0: their registrations must not deviate from it."""

from collections.abc import Iterator

from chalicelib.protocol.client import Client
from chalicelib.protocol.fapi import PROFILES, SECURITY, explain, find_deviations
from infra.operator.doctor.findings import Finding


def inspect(clients: list[Client]) -> Iterator[Finding]:
    """Yield a finding for each deviation of a client from its own profile, or one when there is none."""
    clients = [client for client in clients if client.profile is not None and client.disabled_at is None]
    ok = True
    for client in clients:
        if client.profile not in PROFILES:
            ok = False
            detail = f"Its profile {client.profile!r} is none of: {', '.join(PROFILES)}."
            fix = f"Run `signet client update {client.client_id} --profile {SECURITY}`."
            yield Finding(f"client {client.client_id}", False, detail, fix)
            continue
        for deviation in find_deviations(client, client.profile):
            ok = False
            detail = f"{explain(deviation, client.profile)}."
            fix = f"Run `signet client update {client.client_id} {deviation.fix}`."
            yield Finding(f"client {client.client_id}", False, detail, fix)
    if clients and ok:
        yield Finding("FAPI 2.0", True, f"The registrations of {len(clients)} clients meet their profile of FAPI 2.0.")
