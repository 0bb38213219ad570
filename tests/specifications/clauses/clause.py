"""The clauses of a specification, summarised, with the reasons for those that no test covers."""

from dataclasses import KW_ONLY, dataclass
from typing import Literal

Level = Literal["MUST", "MUST NOT", "SHOULD", "SHOULD NOT", "REQUIRED", "RECOMMENDED", "NOT RECOMMENDED"]


@dataclass(frozen=True)
class Clause:
    """One requirement for an authorization server.

    `section` is the number of its section, with a letter if the section has several clauses. A test that covers the
    clause has a mark such as `spec("RFC 6749 §4.1.2 b")`. A clause without a test needs a reason, `not_held` or
    `not_applicable`. `note` is shown beside the tests of a clause.
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
    """A specification with its clauses. `also` lists sections without a clause that marks can name."""

    name: str
    title: str
    clauses: tuple[Clause, ...]
    also: tuple[str, ...] = ()

    def id_of(self, clause: Clause) -> str:
        """Return the name of a clause in a mark."""
        return f"{self.name} §{clause.section}"

    @property
    def sections(self) -> frozenset[str]:
        """The names of whole sections, which marks can use as well."""
        return frozenset(f"{self.name} §{section}" for section in (*self.also, *self._numbers()))

    def _numbers(self) -> set[str]:
        return {clause.section.partition(" ")[0] for clause in self.clauses}
