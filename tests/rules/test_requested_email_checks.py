"""Who may use an email that was asked for without a session, and by which names it is asked for."""

from dataclasses import replace
from typing import Any

import pytest

from chalicelib.authentication import proofs
from chalicelib.authentication.password import MAX_USERNAME
from chalicelib.authentication.proofs import Content
from chalicelib.protocol.errors import RequestEnded
from chalicelib.protocol.records import User
from chalicelib.users.email_code import KIND
from chalicelib.users.requested_email import lookups_of, require_current
from tests.support.site import Site

CLAIMS: dict[str, Any] = {"email": "alice@example.com", "email_verified": True}
ALICE = User("alice", "alice", "", CLAIMS)

CHANGES: dict[str, User | None] = {
    "deleted": None,
    "another user": replace(ALICE, sub="bob"),
    "disabled": replace(ALICE, disabled_at=1),
    "gone": replace(ALICE, deleted_at=1, deletion_due_at=2),
    "signed out everywhere": replace(ALICE, sessions_generation=1),
    "another address": replace(ALICE, claims=CLAIMS | {"email": "b@example.com"}),
    "an address that is not verified": replace(ALICE, claims={"email": "alice@example.com"}),
}


@pytest.mark.parametrize("change", [None, *CHANGES])
def test_email_is_for_the_user_as_they_were_when_it_was_sent(site: Site, change: str | None) -> None:
    content = Content("alice@example.com", "alice")
    proof = proofs.new_proof(site.server, KIND.purpose, "x", content, browser_id="b", sub="alice")
    if change is None:
        assert require_current(site.server, KIND, proof, ALICE) == ALICE
    else:
        with pytest.raises(RequestEnded):
            require_current(site.server, KIND, proof, CHANGES[change])


def test_decoy_is_for_no_user(site: Site) -> None:
    proof = proofs.new_proof(site.server, KIND.purpose, "x", Content("", "alice"), browser_id="b")
    for user in (None, ALICE, replace(ALICE, claims={})):
        with pytest.raises(RequestEnded):
            require_current(site.server, KIND, proof, user)


def test_name_that_no_user_can_have_is_looked_up_as_none(site: Site) -> None:
    def keys(typed: str) -> list[str]:
        return [str(lookup) for lookup in lookups_of(site.server.store, typed)]

    assert keys(" alice ") == keys("alice") != keys("")
    assert keys("a" * MAX_USERNAME) != keys("")
    assert keys("a" * (MAX_USERNAME + 1)) == keys("")
