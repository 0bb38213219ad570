"""What a client lacks for a profile of FAPI 2.0, for `client show` and the doctor."""

from collections.abc import Iterator

import click

from chalicelib.protocol.client import Client
from chalicelib.protocol.fapi import PROFILES, find_deviations
from infra.operator.doctor.findings import Finding

profile_option = click.option(
    "--profile", type=click.Choice(PROFILES), help="Also list what the client lacks for this profile of FAPI 2.0."
)


def missing_for_profile(client: Client, profile: str | None) -> list[str]:
    """Return a sentence for each deviation of a client from a profile, by default its own: clause and option."""
    profile = profile or client.profile
    if profile not in PROFILES:
        return []
    return [f"{each.problem} ({each.clause}): {each.fix}" for each in find_deviations(client, profile)]


def inspect_profiles(clients: list[Client]) -> Iterator[Finding]:
    """Yield a finding for each deviation of a client from its own profile, or one when there is none."""
    clients = [client for client in clients if client.profile in PROFILES and client.disabled_at is None]
    ok = True
    for client in clients:
        for deviation in find_deviations(client, client.profile or ""):
            ok = False
            detail = f"{deviation.problem}, which {client.profile} does not allow ({deviation.clause})."
            fix = f"Run `signet client update {client.client_id} {deviation.fix}`."
            yield Finding(f"client {client.client_id}", False, detail, fix)
    if clients and ok:
        yield Finding("FAPI 2.0", True, f"The registrations of {len(clients)} clients meet their profile of FAPI 2.0.")
