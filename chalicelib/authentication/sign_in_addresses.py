"""Where sign-ins come from: users can be told of those in an unknown browser, and operators of a missing setting.

Notice that nearly all sign-ins come from one address: that of a proxy, in front of a server that was not told of it.

The throttle then takes everyone for one caller. Each process remembers its last sign-ins, as digests with a key that
only this process has. An office that has one address looks the same.
"""

import hashlib
import secrets
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from chalicelib import events, pages
from chalicelib.events.history import UNKNOWN_BROWSER, device
from chalicelib.http.messages import Request
from chalicelib.mail.notices import locale_for, tell
from chalicelib.protocol.durations import HOUR
from chalicelib.protocol.records import User
from chalicelib.server import AuthorizationServer
from chalicelib.storage.table import Write

REMEMBERED = 20  # sign-ins
NEARLY_ALL = 18  # of these, from one address
USERS = 10  # different ones among them
PAUSE = HOUR


@dataclass
class _Memory:
    """The last sign-ins in this process, as digests of address and user, and when the event was last recorded."""

    recent: deque[tuple[bytes, bytes]] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    key: bytes = field(default_factory=lambda: secrets.token_bytes(32))
    event_at: int = -PAUSE

    def digest(self, text: str) -> bytes:
        return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), key=self.key, digest_size=16).digest()


def note_sign_in(server: AuthorizationServer, http: Request, sub: str) -> None:
    """Remember where a user has signed in from, and note the event if nearly all have the same address.

    At most once an hour in each process.
    """
    memory: _Memory = server.process_memory.setdefault("sign_in_addresses", _Memory())
    address = memory.digest(http.source_ip)
    memory.recent.append((address, memory.digest(sub)))
    same = [user for origin, user in tuple(memory.recent) if origin == address]
    if len(same) < NEARLY_ALL or len(set(same)) < USERS or server.now() - memory.event_at < PAUSE:
        return
    memory.event_at = server.now()
    events.note(http, events.SIGN_INS_FROM_ONE_ADDRESS)


def telling_user(server: AuthorizationServer, http: Request, user: User) -> tuple[Write[Any], ...]:
    """Return the write that tells a user by mail of a sign-in in a browser that is not known."""
    values = {
        "device": device(http) or UNKNOWN_BROWSER,
        "source_ip": http.source_ip,
        "time": pages.date_text(server.now(), locale_for(server, http, user)),
    }
    return tell(server, http, user, "new_sign_in", values)
