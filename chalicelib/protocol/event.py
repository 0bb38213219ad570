"""The record of an entry in a history."""

from chalicelib.protocol.values import dataclass


@dataclass(frozen=True)
class Event:
    """An entry of a user's activity history: what was done with the account, by which client, from where.

    `name` is one of the names in `events.log`. `event_id` starts with the time, so that events are stored in order.
    Operator actions on clients and keys have a `sub` that no user can have.
    """

    sub: str
    event_id: str
    name: str
    created_at: int
    expires_at: int
    client_id: str | None = None
    client_name: str | None = None
    source_ip: str | None = None
    device: str | None = None
    detail: str | None = None
