"""What one statement of a specification is, in our words, and what has become of it here."""

from dataclasses import KW_ONLY, dataclass
from typing import Literal

Level = Literal["MUST", "MUST NOT", "SHOULD", "SHOULD NOT", "REQUIRED", "RECOMMENDED", "NOT RECOMMENDED"]


@dataclass(frozen=True)
class Clause:
    """One statement that binds an authorization server.

    `section` is its number, with a letter where the section has several statements: a test that holds it bears the
    mark `spec("RFC 6749 §4.1.2 b")`. Without such a test a reason is given, `not_held` or `not_applicable`.
    `note` tells what a reader should know of a clause held.
    """

    section: str
    level: Level
    what: str
    _: KW_ONLY
    not_held: str = ""
    not_applicable: str = ""
    note: str = ""


@dataclass(frozen=True)
class Specification:
    """A specification with its clauses. `also`: sections that tests are about, and that have no clause for us."""

    name: str
    title: str
    clauses: tuple[Clause, ...]
    also: tuple[str, ...] = ()

    def id_of(self, clause: Clause) -> str:
        """The name of a clause in a mark."""
        return f"{self.name} §{clause.section}"

    @property
    def sections(self) -> frozenset[str]:
        """What a mark may name beside the clauses: whole sections."""
        return frozenset(f"{self.name} §{section}" for section in (*self.also, *self._numbers()))

    def _numbers(self) -> set[str]:
        return {clause.section.partition(" ")[0] for clause in self.clauses}
