"""Documents on the websites of clients, fetched once for all processes: metadata documents and key sets.

A document is stored once it could be used, and nothing is stored of a failure. When it must be fetched again, one
process does so, which one conditional write decides; the others use the stale copy, and so does everyone while it
cannot be fetched.
"""

from collections.abc import Callable
from dataclasses import Field
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from chalicelib.protocol.values import dataclass
from chalicelib.server import AuthorizationServer
from chalicelib.storage.cache import Cache
from chalicelib.storage.dynamodb import attr
from chalicelib.storage.table import Refused, Table, Write

PAUSE = 30  # seconds in which a process does not try again what it has not got
# A claim is refused if one of these has changed since the document was read.
_CLAIMED = ("refreshing_until", "fetched_at", "pinned_at", "blocked_at")


class DocumentUnusable(Exception):
    """There is no copy of a document that can be used. The text says why, for the log only."""


class DocumentForbidden(DocumentUnusable):
    """A document must not be used, whatever its website says. A stale copy is not used either."""


class Fetched(Protocol):
    """The record of a document."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    @property
    def document_id(self) -> str:
        """The key of the record."""
        ...

    @property
    def fetched_at(self) -> int:
        """When it was fetched, in seconds since 1970."""
        ...

    @property
    def refreshing_until(self) -> int:
        """Until when another process fetches it; 0 if none does."""
        ...


D = TypeVar("D", bound=Fetched)


@dataclass(frozen=True)
class DocumentCache(Generic[D]):
    """The documents of one kind.

    `merge` returns what replaces the current record, given it and the one that was fetched. `pause`: seconds that one
    process has for a refresh, before another may try. `stale_for`: seconds in which a copy is used without a refresh.
    """

    server: AuthorizationServer
    table: Table[D]
    merge: Callable[[D, D], D]
    pause: int
    stale_for: int

    def fetch_new(
        self,
        document_id: str,
        fetch: Callable[[], D],
        count: Callable[[], None] = lambda: None,
        checks: tuple[Write[Any], ...] = (),
    ) -> D:
        """Fetch and store a document of which there is no record; return what is stored then.

        `count` raises DocumentUnusable when this caller must not cause a fetch. `checks` are conditions on other
        records, without which the document is forbidden. Raises DocumentUnusable, for PAUSE without another attempt.
        """
        failed: Cache[DocumentUnusable]
        failed = self.server.process_memory.setdefault("unusable documents", Cache(PAUSE))
        if failure := failed.get(document_id, self.server.now()):
            raise type(failure)(str(failure))
        # Not in what is remembered: it would be a failure for other callers too.
        count()
        try:
            document = fetch()
            inserting = self.table.inserting(document)
            refused = self.server.store.transact(inserting, *checks)
            if refused and any(refused.of(check) for check in checks):
                raise DocumentForbidden("another record does not allow the document")
        except DocumentUnusable as error:
            failed.update({document_id: type(error)(str(error))}, self.server.now())  # without its traceback
            raise
        stored = refused.of(inserting) if refused else None
        # Another process may have stored the same document, or the operator another one.
        return stored.record if stored and stored.record else document

    def refresh(self, stored: D, fetch: Callable[[], D]) -> D:
        """Return a document that one process fetches again; a stale copy to the others, and while that fails.

        Raises DocumentUnusable when that copy is too old, or the document has become forbidden.
        """
        now, key = self.server.now(), (stored.document_id,)
        if stored.refreshing_until > now:
            return self._require_usable(stored, "it is being fetched again")
        claimed = self.table.transition(
            key, self.table.unchanged(stored, *_CLAIMED), {"refreshing_until": now + self.pause}
        )
        if isinstance(claimed, Refused):
            return self._require_usable(claimed.record or stored, "it is being fetched again")
        claimed_until = claimed.refreshing_until
        try:
            fetched = fetch()
        except DocumentForbidden:
            # A block does not expire.
            self.table.transition(key, attr("blocked_at").not_exists(), {"expires_at": now})
            raise
        except DocumentUnusable as error:
            return self._require_usable(claimed, str(error))

        def change(current: D) -> D:
            # Otherwise another process has fetched it.
            return self.merge(current, fetched) if current.refreshing_until == claimed_until else current

        written = self.server.store.amend(self.table, claimed, change)
        return change(claimed) if isinstance(written, Refused) else written

    def _require_usable(self, document: D, problem: str) -> D:
        pinned = getattr(document, "pinned_at", None) is not None
        if not pinned and self.server.now() - document.fetched_at >= self.stale_for:
            raise DocumentUnusable(problem)
        return document
