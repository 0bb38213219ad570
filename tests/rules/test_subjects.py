"""Subject identifiers are not reassigned."""

import base64

import pytest

from tests.support.site import Site


@pytest.mark.spec("OpenID Connect Core §5.7")
def test_sub_of_a_deleted_user_is_not_reused(site: Site) -> None:
    store = site.server.store
    first = site.user("alice")
    store.users.delete(first.sub)
    store.identifiers.delete("username:alice")
    second = site.user("alice")
    assert second.sub != first.sub
    assert len(base64.urlsafe_b64decode(second.sub + "==")) == 16
