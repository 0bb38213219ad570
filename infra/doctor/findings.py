"""What the doctor finds: one sentence about one thing, and what to do about it."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Verdict:
    """`ok`: well, not well, or None when it could not or need not be judged. `fix`: what to do when it is not well."""

    ok: bool | None
    detail: str
    fix: str = ""


@dataclass(frozen=True)
class Finding:
    """A verdict on the thing called `name`."""

    name: str
    ok: bool | None
    detail: str
    fix: str = ""

    @property
    def document(self) -> dict[str, Any]:
        """The members of the JSON answer."""
        return asdict(self)


def judge(problems: Sequence[str], well: str, fix: str) -> Verdict:
    """`well` when there are no problems; else all of them, and the fix."""
    return Verdict(False, "; ".join(problems) + ".", fix) if problems else Verdict(True, well)


def skipped(why: str) -> Verdict:
    """Not judged, and why: in this place it means nothing, or it cannot be known from here."""
    return Verdict(None, why)
