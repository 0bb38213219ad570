"""Which forms of the sign-in page are about an email, and what they read."""

import pytest

from chalicelib.authorization import email_form
from chalicelib.http.messages import Params
from chalicelib.users.requested_email import lookups_of
from tests.support.site import Site


@pytest.mark.parametrize(
    ("names", "about_email", "after_sign_in_page"),
    [
        ("username password", False, False),
        ("passkey", False, False),
        ("username email_me", True, False),
        ("email_me", True, True),
        ("email_code", True, True),
        ("use_password", True, True),
        ("", False, False),
    ],
)
def test_form_is_about_an_email_by_its_button(names: str, *, about_email: bool, after_sign_in_page: bool) -> None:
    form = Params((name, "x") for name in names.split())
    assert email_form.is_about_email(form) is about_email
    assert email_form.follows_sign_in_page(form) is after_sign_in_page


def test_only_a_form_that_asks_for_an_email_by_a_name_reads_who_it_is(site: Site) -> None:
    def lookups(**fields: str) -> list[str]:
        return [str(lookup) for lookup in email_form.lookups(site.server, Params(fields.items()))]

    assert lookups(email_me="yes", username="alice") == [str(each) for each in lookups_of(site.server.store, "alice")]
    assert lookups(username="alice", password="x") == lookups(email_me="again") == lookups(email_code="x") == []
