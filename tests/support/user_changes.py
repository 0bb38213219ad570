"""What an operator or a user changes about a user, which ends links and codes that were sent before."""

from chalicelib.protocol.records import User
from chalicelib.users import accounts
from chalicelib.users.password_change import change_password
from tests.support.site import PASSWORD, Site


def set_password(site: Site, user: User) -> None:
    """Set the password of a user, also when it is the one that they have."""
    change_password(site.server.store, user, PASSWORD)


def disable(site: Site, user: User) -> None:
    """Disable a user."""
    accounts.disable(site.server.store, user)


def delete(site: Site, user: User) -> None:
    """Delete a user, at once."""
    accounts.delete(site.server.store, user)


def change_address(site: Site, user: User) -> None:
    """Give a user another email address."""
    now = site.clock()
    accounts.update(site.server.store, user, lambda u: accounts.with_claims(u, {"email": "b@example.com"}, now))
