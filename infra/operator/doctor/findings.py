"""The findings of the doctor: the result of a check, and how to fix a problem."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Verdict:
    """The result of a check. `ok` is None when it was skipped; `fix` says what to do when it has failed."""

    ok: bool | None
    detail: str
    fix: str = ""


@dataclass(frozen=True)
class Finding:
    """The result of the check called `name`."""

    name: str
    ok: bool | None
    detail: str
    fix: str = ""

    @property
    def document(self) -> dict[str, Any]:
        """Return the members of the JSON output."""
        return asdict(self)


def judge(problems: Sequence[str], success: str, fix: str) -> Verdict:
    """Return a failure with all problems and the fix, or the text `success` when there are none."""
    return Verdict(False, "; ".join(problems) + ".", fix) if problems else Verdict(True, success)


def skipped(reason: str) -> Verdict:
    """Return the result of a check that does not apply or cannot be made."""
    return Verdict(None, reason)
