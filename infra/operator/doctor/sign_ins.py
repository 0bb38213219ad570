"""The checks of sign-ins: where they come from, and whether they can reach what is required, and passkeys.

Behind a proxy that was not declared, everyone has its address.
"""

import os
from collections import defaultdict
from itertools import islice

from chalicelib import events
from chalicelib.authentication.sign_in_addresses import NEARLY_ALL, REMEMBERED, USERS
from chalicelib.http.addresses import is_global
from chalicelib.protocol.authentication_context import UNREACHABLE
from chalicelib.protocol.durations import DAY
from chalicelib.settings import Settings
from infra.operator.doctor.findings import Verdict, judge, skipped
from infra.operator.doctor.passkeys import check
from infra.operator.doctor.stage import Inside

MAX_READ = 2000  # events of any users: a sample, because the history is not sorted by time
RECENT = 7 * DAY
_FIX = (
    "Behind a proxy or CDN, everyone has its address, and one caller can use up the tries of all: set "
    "SIGNET_CALLER_ADDRESS_HEADER and SIGNET_PROXY_SECRET_HASH. An office with one address is no problem."
)

_POLICY = ("SIGNET_MFA", "SIGNET_MFA_ACR")


def addresses(inside: Inside) -> Verdict:
    """Check that nearly all sign-ins of the last days do not come from one address, nor all from a private one."""
    store = inside.store
    since, users = store.now() - RECENT, defaultdict[str, list[str]](list)
    for event in islice(store.events.scan(), MAX_READ):
        if event.name == events.SIGN_IN and event.source_ip and event.created_at > since:
            users[event.source_ip].append(event.sub)
    total = sum(map(len, users.values()))
    if not total:
        return skipped(f"There is no sign-in of the last {RECENT // DAY} days among {MAX_READ} events of the history.")
    address = max(users, key=lambda each: len(users[each]))
    count = len(users[address])
    problems = []
    if count == total and not is_global(address):
        problems.append(f"All {total} sign-ins came from {address}, which is a private address")
    elif count >= NEARLY_ALL and count * REMEMBERED >= total * NEARLY_ALL and len(set(users[address])) >= USERS:
        problems.append(f"{count} of {total} sign-ins came from {address}")
    return judge(problems, f"{total} sign-ins of the last days came from {len(users)} addresses.", _FIX)


def requirements(inside: Inside) -> Verdict:
    """Check that a sign-in can reach every `acr` that a client or a scope requires."""
    variables = inside.variables if inside.in_aws else os.environ
    settings = Settings.from_environ({name: variables[name] for name in _POLICY if name in variables})
    policy = settings.authentication_policy
    required = {f"client {client.client_id}": client.require_acr for client in inside.store.clients.scan()}
    required |= {f"scope {scope.scope}": scope.acr for scope in inside.store.scopes.scan()}
    named = {name: acr for name, acr in sorted(required.items()) if acr is not None}
    problems = [
        f"The {name} requires {acr}, which no sign-in reaches"
        for name, acr in named.items()
        if policy.level_of(acr) == UNREACHABLE
    ]
    fix = "Every request for it is rejected. Use one of: " + ", ".join(policy.acr_values) + "; or change SIGNET_MFA."
    return judge(problems, f"SIGNET_MFA is {policy.mode}; {len(named)} clients and scopes require an acr.", fix)


def passkeys(inside: Inside, issuer: str | None) -> Verdict:
    """Check the domain of the passkeys, with which users sign in too."""
    return check(inside, issuer)
