"""What a client lacks for a profile of FAPI 2.0, for `client show`."""

import click

from chalicelib.protocol.client import Client
from chalicelib.protocol.fapi import PROFILES, find_deviations

profile_option = click.option(
    "--profile", type=click.Choice(PROFILES), help="Also list what the client lacks for this profile of FAPI 2.0."
)


def missing_for_profile(client: Client, profile: str | None) -> list[str]:
    """Return a sentence for each deviation of a client from a profile, by default its own: clause and option."""
    profile = profile or client.profile
    if profile not in PROFILES:
        return []
    return [f"{each.problem} ({each.clause}): {each.fix}" for each in find_deviations(client, profile)]
