"""AuthorizationServer: what every endpoint is given."""

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import field, replace
from typing import Any

from chalicelib import builtin_clients, pages
from chalicelib.http import mutual_tls, proxy
from chalicelib.http.messages import Request, Response
from chalicelib.keys.ring import KeyRing
from chalicelib.protocol.client import Client
from chalicelib.protocol.client_document import is_on_host
from chalicelib.protocol.durations import HOUR
from chalicelib.protocol.own_scope import Scope
from chalicelib.protocol.resource import Resource
from chalicelib.protocol.scopes import SCOPES, describe_scope, sort_scopes
from chalicelib.protocol.values import dataclass
from chalicelib.settings import Settings
from chalicelib.storage.cache import RecordCaches
from chalicelib.storage.dynamodb import attr
from chalicelib.storage.store import Records, Store
from chalicelib.storage.table import Lookup

BLOCKED_HOSTS_LIFETIME = 30  # of the time for which a client is cached in all
MAX_FULL_COUNTERS = 10_000


def system_time() -> int:
    """Return the time in seconds since 1970."""
    return int(time.time())


@dataclass(frozen=True)
class AuthorizationServer:
    """The settings, the storage, the keys and the clock of one server.

    `now` returns seconds since 1970. `addresses`: the paths of the endpoints by their names in the metadata (RFC 8414
    section 2). `endpoints`: the endpoints by method and path, for the playground, whose client calls them as any other
    client does. `web` fills both in. `process_memory`: what this process remembers between requests, or between
    runs of a schedule. `caches`: the records that it remembers.
    """

    settings: Settings
    store: Store
    keys: KeyRing
    now: Callable[[], int]
    addresses: dict[str, str] = field(default_factory=dict)
    endpoints: dict[tuple[str, str], "Endpoint"] = field(default_factory=dict, repr=False)
    process_memory: dict[str, Any] = field(default_factory=dict, repr=False)
    caches: RecordCaches = field(default_factory=RecordCaches, repr=False)

    @classmethod
    def connect(cls, settings: Settings, now: Callable[[], int] = system_time) -> "AuthorizationServer":
        """Return a server on the storage that the settings name. Nothing is sent before the first use."""
        store = Store(settings, now)
        return cls(settings, store, KeyRing(store), now)

    @property
    def issuer(self) -> str:
        """The issuer identifier, the same string everywhere (RFC 8414 section 2)."""
        return self.settings.issuer

    def path_of(self, endpoint: str) -> str:
        """Return the path of an endpoint by its name in the metadata, below the path of the issuer."""
        return pages.base(self.settings) + self.addresses[endpoint]

    @property
    def mtls_addresses(self) -> dict[str, str]:
        """The addresses of the endpoints at the domain for mutual TLS, by their names in the metadata (RFC 8705)."""
        domain = self.settings.mtls_domain
        paths = mutual_tls.served(self.addresses) if domain else {}
        return {name: f"https://{domain}{pages.base(self.settings)}{path}" for name, path in paths.items()}

    def address_of(self, http: Request) -> str:
        """Return the address that a client has sent a request to, without its query."""
        domain = self.settings.mtls_domain
        if domain and http.domain == domain:
            return f"https://{domain}{pages.base(self.settings)}{http.path}"
        return self.issuer + http.path

    def admit(self, http: Request) -> None:
        """Refuse a request that came neither by the domain for mutual TLS nor, if one is declared, by the proxy.

        Raises Forbidden, NotFound and ServerError.
        """
        settings = self.settings
        if not mutual_tls.admit(http, settings.mtls_domain, self.addresses):
            proxy.admit(http, settings.caller_address_header, settings.proxy_secret_hash)

    def at(self, issuer: str) -> "AuthorizationServer":
        """Return the same server under another issuer: for a gateway whose address no setting names."""
        return replace(self, settings=replace(self.settings, issuer=issuer))

    def client(self, client_id: str, accept: Callable[[Client], bool] = lambda _client: True) -> Client | None:
        """Return a client; None when there is none, it is disabled, or `accept` returns False for it.

        A record is cached for 60 s in this process; that there is none is never cached. No client is rejected because
        of a cached record: it is read again first.
        """
        cached = self.caches.clients.get(client_id, self.now())
        if cached and accept(cached):
            return cached
        client = self.read_client(client_id)
        return client if client and accept(client) else None

    def read_client(self, client_id: str) -> Client | None:
        """Return a client by its record as it is now, whatever is cached; None when there is none or it is disabled.

        Built-in clients have no record, and are never cached. One with a document is read from its record.
        """
        if client_id in builtin_clients.RESERVED:
            return builtin_clients.find(client_id, self.settings, self.playground_secret, self.playground_types)
        records, read_at = self.read_records_of_client(client_id)
        client = self.store.client_in(records, client_id)
        enabled = client if client and client.disabled_at is None else None
        self.cache_client(client_id, enabled, read_at)
        return enabled

    def read_records_of_client(self, client_id: str) -> tuple[Records, int]:
        """Return the records that say who a client is, and when the oldest of them was read.

        The blocked hosts are read once in 30 s, and again before a client is rejected because of them. A client is
        cached for as long after they were read as after it was read, so a block takes effect in a minute.
        """
        now, lookups, hosts = self.now(), self.store.lookups_of_client(client_id), self.store.lookup_of_blocked_hosts
        if hosts not in lookups:
            return self.store.read_all(lookups), now
        read_at, blocked = self.process_memory.get("blocked hosts", (now - BLOCKED_HOSTS_LIFETIME, None))
        if now - read_at < BLOCKED_HOSTS_LIFETIME and not (blocked and is_on_host(client_id, blocked.hosts)):
            lookups.remove(hosts)
            return self.store.read_all(lookups).with_record(hosts, blocked), read_at
        records = self.store.read_all(lookups)
        self.process_memory["blocked hosts"] = (now, records.get(hosts))
        return records, now

    def cache_client(self, client_id: str, client: Client | None, read_at: int | None = None) -> None:
        """Cache the record of an enabled client in this process, or with None drop it."""
        if client:
            self.caches.clients.update({client_id: client}, self.now() if read_at is None else read_at)
        else:
            self.caches.clients.drop((client_id,))

    def scope_descriptions(self, scopes: Collection[str]) -> dict[str, str]:
        """Return the description of each of these scopes, in the order in which users should read them.

        A scope without a description is described by its name.
        """
        own = self.own_scopes(scopes)
        described = {name: scope.description for name, scope in own.items() if scope.description}
        return {name: described.get(name) or describe_scope(name) for name in sort_scopes(scopes)}

    def own_scopes(self, names: Collection[str]) -> dict[str, Scope]:
        """Return the operator's own scopes among these, by name; without those that have no record.

        A record is cached for 60 s in this process (also that there is none); the others are read in one call.
        """
        cached, lookups = self.cached_scopes(names)
        return cached | self.cache_scopes(lookups, self.store.read_all(lookups))

    def cached_scopes(self, names: Collection[str]) -> tuple[dict[str, Scope], list[Lookup[Scope]]]:
        """Return the operator's own scopes among these that are cached, and the lookups of the others.

        For a caller that reads them together with other records, and calls `cache_scopes`.
        """
        own = {*names} - SCOPES.keys()
        recent = self.caches.scopes.recent(own, self.now())
        lookups = [self.store.scopes.lookup(name) for name in sorted(own - recent.keys())]
        return {name: scope for name, scope in recent.items() if scope}, lookups

    def cache_scopes(self, lookups: Sequence[Lookup[Scope]], records: Records) -> dict[str, Scope]:
        """Cache the scopes that a read has looked up, also that there is none, and return them by name."""
        read = {lookup.key[0]: records.get(lookup) for lookup in lookups}
        self.caches.scopes.update(read, self.now())
        return {name: scope for name, scope in read.items() if scope}

    def resources(self, uris: Collection[str], *, fresh: bool = False) -> dict[str, Resource]:
        """Return the resources with these URIs, by URI; those that are not registered are left out.

        A record is found by any spelling of its URI, and cached for 60 s in this process; that there is none is never
        cached. The others, with `fresh` all, are read in one call. A client whose client_id is the URI is a resource
        too, as before resources had records.
        """
        now = self.now()
        cached = {} if fresh else self.caches.resources.recent(uris, now)
        missing = sorted(set(uris) - cached.keys())
        lookups = {uri: self.store.lookups_of_resource(uri) for uri in missing}
        records = self.store.read_all(each for of_uri in lookups.values() for each in of_uri)
        resources = {uri: self.store.resource_in(records, uri) for uri in missing}
        read = {uri: resource for uri, resource in resources.items() if resource}
        self.caches.resources.update(read, now)
        self.caches.resources.drop(uri for uri in missing if uri not in read)
        return cached | read

    def count_in_hour(self, purpose: str, counted: str, limit: int) -> bool:
        """Count something in this clock hour, by one write; return False beyond the limit.

        Beyond it, this process writes nothing more in this hour.
        """
        hour, full, attempts = self.now() // HOUR, self.full_counters(), self.store.attempts
        key = self.keys.digest(purpose, counted, str(hour))
        if key in full:
            return False
        # Deleted when the clock of no process is in this hour.
        set_ = {"expires_at": (hour + 2) * HOUR}
        counting = attempts.changing((key,), attr("failures").lt(limit), set_, {"failures": 1}, create=True)
        if self.store.transact(counting) is None:
            return True
        if len(full) < MAX_FULL_COUNTERS:
            full.add(key)
        return False

    def full_counters(self) -> set[str]:
        """Return the keys of the counters that this process knows to be at their limit in this clock hour."""
        hour = self.now() // HOUR
        if self.process_memory.get("full counters", (hour,))[0] != hour:
            del self.process_memory["full counters"]
        full: set[str] = self.process_memory.setdefault("full counters", (hour, set()))[1]
        return full

    def forget_cached_records(self) -> None:
        """Drop the cached records, so that the next use reads them again, and what the process remembers."""
        self.caches.clear()
        self.process_memory.clear()

    def playground_types(self) -> list[str]:
        """Return the names of the types of authorization details that the playground may ask for, sorted.

        Those that any application may ask for that registers itself; all, in the database of a checkout. They are
        cached for 60 s in this process.
        """
        now = self.now()
        types = self.caches.playground_types.get("", now)
        if types is None:
            all_types, is_local = self.store.all_authorization_types(), self.settings.stage == "local"
            types = [type_.name for type_ in all_types if is_local or type_.self_registered]
            self.caches.playground_types.update({"": types}, now)
        return types

    def playground_secret(self) -> str:
        """Return the secret of the playground's client: the same in every process, and known only to this server."""
        return self.keys.form_tag("the playground's client secret")


Endpoint = Callable[[AuthorizationServer, Request], Response]
