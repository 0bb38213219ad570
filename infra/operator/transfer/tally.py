"""The results of an import."""

import sys
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from chalicelib.protocol.client import Client
from chalicelib.protocol.records import User
from infra.operator.terminal import visible
from infra.operator.transfer.json_lines import KINDS, Entry
from infra.operator.transfer.outcome import Outcome
from infra.operator.transfer.passkey_records import domain_in


@dataclass
class Tally:
    """The results of an import. The fields are also the members of the JSON output."""

    added: Counter[str] = field(default_factory=Counter)
    there: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    new_passwords: list[str] = field(default_factory=list)
    new_secrets: list[str] = field(default_factory=list)
    no_second_factor: list[str] = field(default_factory=list)
    left_behind: Counter[str] = field(default_factory=Counter)
    passkey_domains: Counter[str] = field(default_factory=Counter)

    def count(self, entry: Entry, outcome: Outcome) -> None:
        """Count the outcome of an entry, and list the users and clients without a credential."""
        record = entry.record if outcome.added else outcome.existing
        if record is None:
            self.problems.append(f"{entry.place}: {outcome.problem}")
            return
        (self.added if outcome.added else self.there)[KINDS[type(record)]] += 1
        if domain := domain_in(record):
            self.passkey_domains[domain] += 1
        if isinstance(record, User) and not record.password_hash:
            self.new_passwords.append(record.username)
        if isinstance(record, Client) and record.has_secret_method and not record.secret_hashes:
            self.new_secrets.append(record.client_id)

    @property
    def document(self) -> dict[str, Any]:
        """Return the members of the JSON output."""
        return {**vars(self), "left_behind": {name: count for name, count in self.left_behind.items() if count}}


def show(tally: Tally, domain: str | None) -> None:
    """Print the results of an import. `domain`: of the passkeys of this stage, None if it is unknown."""
    for problem in tally.problems:
        print(visible(problem), file=sys.stderr)
    print(f"Added: {_kinds(tally.added)}. Already existing: {_kinds(tally.there)}.")
    if unsupported := tally.document["left_behind"]:
        names = ", ".join(f"{visible(name)} ({count})" for name, count in unsupported.items())
        print(f"Not imported, because Signet does not support it: {names}.")
    if users := tally.new_passwords:
        print(f"Without a password, {len(users)} (`signet user set-password`):", *map(visible, users), sep="\n  ")
    if users := tally.no_second_factor:
        reason = (
            "because it was sealed for another stage or key ring; they sign in without it, and must set it up again"
        )
        print(f"Without the second factor, {len(users)}, {reason}:", *map(visible, users), sep="\n  ")
    if clients := tally.new_secrets:
        print(f"Without a secret, {len(clients)} (`signet client rotate-secret`):", *map(visible, clients), sep="\n  ")
    _warn_of_domains(tally.passkey_domains, domain)


def _warn_of_domains(domains: Counter[str], domain: str | None) -> None:
    """Say which passkeys belong to another domain than `domain`, that of this stage, None if it is unknown."""
    for name, count in sorted(domains.items()):
        if domain is not None and name != domain:
            passkeys = f"{count} passkeys belong" if count > 1 else "1 passkey belongs"
            print(f"{passkeys} to {visible(name)}, not to {domain}, and cannot be used here: see docs/passkeys.md.")


def _kinds(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {kind}" + ("s" if count > 1 else "") for kind, count in counts.items()) or "none"
