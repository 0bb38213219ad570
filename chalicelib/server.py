"""AuthorizationServer: what every endpoint is given."""

import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace

from chalicelib import claims, own_clients
from chalicelib.keys import KeyRing
from chalicelib.messages import Request, Response
from chalicelib.models import Client
from chalicelib.settings import Settings
from chalicelib.store import Store

CLIENT_CACHE_LIFETIME = 60
CLIENT_CACHE_SIZE = 1000
SCOPE_CACHE_LIFETIME = 60
SCOPE_CACHE_SIZE = 1000
MOST_READ = 100  # by one BatchGetItem


@dataclass(frozen=True)
class AuthorizationServer:
    """The settings, the storage, the keys and the clock (whole seconds) of one server.

    `addresses`: the paths of its endpoints by their names in the metadata (RFC 8414 section 2). `endpoints`: the same
    by method and path, for the playground, whose client calls them as any other would. `web` fills both in.
    """

    settings: Settings
    store: Store
    keys: KeyRing
    addresses: dict[str, str] = field(default_factory=dict)
    endpoints: dict[tuple[str, str], "Endpoint"] = field(default_factory=dict, repr=False)
    _clients: dict[str, tuple[int, Client]] = field(default_factory=dict, repr=False)
    _scopes: dict[str, tuple[int, str | None]] = field(default_factory=dict, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @classmethod
    def connect(cls, settings: Settings, now: Callable[[], int] | None = None) -> "AuthorizationServer":
        """A server on the storage that the settings name. Nothing is sent before the first use."""
        store = Store(settings, now) if now else Store(settings)
        return cls(settings, store, KeyRing(store))

    @property
    def issuer(self) -> str:
        """The issuer identifier, the same string everywhere (RFC 8414 section 2)."""
        return self.settings.issuer

    def at(self, issuer: str) -> "AuthorizationServer":
        """The same server under another issuer: for a gateway whose address no setting names."""
        return replace(self, settings=replace(self.settings, issuer=issuer))

    def now(self) -> int:
        """Seconds since 1970."""
        return self.store.now()

    def client(self, client_id: str, *, fresh: bool = False) -> Client | None:
        """The client, None when there is none or it is disabled.

        A record is kept for 60 s in this process. A miss is never kept; `fresh` reads again, which is done before
        anybody is refused because of what a kept record says.
        """
        if client_id in own_clients.RESERVED:
            return own_clients.find(client_id, self.settings, self.playground_secret)
        now = self.now()
        known = self._clients.get(client_id)
        if known and not fresh and now - known[0] < CLIENT_CACHE_LIFETIME:
            return known[1]
        client = self.store.clients.get(client_id)
        with self._lock:
            self._clients.pop(client_id, None)
            if client and client.disabled_at is None:
                while len(self._clients) >= CLIENT_CACHE_SIZE:
                    self._clients.pop(next(iter(self._clients)))
                self._clients[client_id] = (now, client)
        return client if client and client.disabled_at is None else None

    def scope_descriptions(self, scopes: Collection[str]) -> dict[str, str]:
        """Each of these scopes in plain words, in the order in which people should read them.

        The operator's own have theirs in a record, kept for 60 s in this process, that there is none too; those that
        are not known are read in one call. One without a record stands for itself.
        """
        now, own = self.now(), set(scopes) - claims.SCOPES.keys()
        known = {name: self._scopes[name] for name in own if name in self._scopes}
        words = {name: text for name, (read_at, text) in known.items() if now - read_at < SCOPE_CACHE_LIFETIME}
        missing = sorted(own - words.keys())
        for some in (missing[start : start + MOST_READ] for start in range(0, len(missing), MOST_READ)):
            records = self.store.read(*((self.store.scopes, (name,)) for name in some))
            words |= {name: record and record.description for name, record in zip(some, records, strict=True)}
        with self._lock:
            if len(self._scopes) + len(missing) > SCOPE_CACHE_SIZE:
                self._scopes.clear()
            self._scopes.update((name, (now, words[name])) for name in missing)
        return {name: words.get(name) or claims.describe(name) for name in claims.in_order(scopes)}

    def playground_secret(self) -> str:
        """The secret of the playground's client: the same in every process, and known to nobody else."""
        return self.keys.form_tag("the playground's client secret")


Endpoint = Callable[[AuthorizationServer, Request], Response]
