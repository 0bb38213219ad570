"""The record that says when the account of a user who has deleted it is removed."""

from chalicelib.protocol.values import dataclass

DELETIONS = "deletions"


@dataclass(frozen=True)
class ScheduledDeletion:
    """A deletion by the user `sub`, in the table of deliveries.

    `created_at`: the `deleted_at` of the user, so that a deletion that was undone, also to delete the account again,
    removes nothing. `not_before`: when the account is removed. `outbox`: DELETIONS, the partition of the index `due`.
    `expires_at`: long after it, because a record that expired would leave the account there.
    """

    delivery_id: str
    sub: str
    created_at: int
    not_before: int
    expires_at: int
    outbox: str = DELETIONS
