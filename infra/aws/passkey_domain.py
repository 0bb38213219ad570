"""The warning before a deployment that changes the domain of the passkeys, which would stop working."""

from collections.abc import Mapping
from contextlib import suppress
from itertools import islice

import click

from chalicelib.protocol.errors import OAuthError
from chalicelib.protocol.passkey import rp_id_of
from chalicelib.storage.store import Store
from infra.access import NO_ACCESS, REJECTED
from infra.aws.deployment import Deployment
from infra.aws.front import issuer_of
from infra.operator.commands import CommandError, require_terminal

MAX_READ = 1000


def confirm_change(deployment: Deployment, server: Mapping[str, str]) -> None:
    """Warn of passkeys that the new parameters make useless, and ask for confirmation.

    `server`: the parameters of the server. Nothing is said where the old domain has no passkey; where the passkeys
    cannot be read, there may be some. Raises CommandError when the operator declines.
    """
    previous = deployment.api.parameters()
    if not previous:
        return
    own = "" if issuer_of(previous) else deployment.api.outputs().get("Issuer", "")
    before, after = (_domain(parameters, own) for parameters in (previous, server))
    removed = sorted(_origins(previous) - _origins(server))
    if before is None or (before == after and not removed):
        return
    count = _count(deployment.open_store(), before)
    if count == 0:
        return
    passkeys = f"{count} passkeys" if count else "Passkeys"
    if before != after:
        new = after or "another domain"
        click.echo(f"Warning: {passkeys} belong to {before}, and stop working, because the domain becomes {new}.")
        click.echo(f"  → To keep them: --param RpId={before}; {before} must name the new origin (docs/passkeys.md).")
    if removed:
        click.echo(f"Warning: {passkeys} can no longer be used at {', '.join(removed)} (RelatedOrigins).")
    if deployment.yes:
        return
    require_terminal("--yes")
    if not click.confirm("Deploy with this change?", err=True):
        raise CommandError("Nothing has been changed.")


def _domain(parameters: Mapping[str, str], own: str) -> str | None:
    """Return the domain of the passkeys with these parameters, None if there is none, or it is unknown.

    `own`: the address of the API, where it is the issuer.
    """
    issuer = issuer_of(parameters) or own
    return rp_id_of(parameters.get("RpId") or None, issuer) if issuer else parameters.get("RpId") or None


def _origins(parameters: Mapping[str, str]) -> set[str]:
    return set(parameters.get("RelatedOrigins", "").split())


def _count(store: Store, domain: str) -> int | None:
    """Return how many passkeys belong to a domain, as far as they are read; None if they cannot be read."""
    with suppress(*REJECTED, *NO_ACCESS, OAuthError):
        return sum(passkey.rp_id == domain for passkey in islice(store.passkeys.scan(), MAX_READ))
    return None
