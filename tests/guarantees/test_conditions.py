"""Conditions of writes that are not fulfilled only when another request writes at a certain moment."""

from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from chalicelib.protocol.records import Consent
from chalicelib.sessions.lifetime import extend
from tests.support.browser import Browser
from tests.support.faults import Wire
from tests.support.site import Site


@pytest.mark.parametrize(
    "copy", [{"consents_generation": 1}, {"registration_id": "another"}, {"client_generation": 1}], ids=str
)
def test_consent_is_not_added_to_one_that_was_recorded_in_between_with_another_copy(
    site: Site, browser: Browser, wire: Wire, copy: dict[str, Any]
) -> None:
    """Another process may have a newer record of the client, and one of the two consents has ended."""
    store, user, client = site.server.store, site.user("alice"), site.client()
    page = browser.sign_in(browser.authorize(client))
    consent = Consent(
        user.sub,
        client.id,
        scope=frozenset({"profile"}),
        consents_generation=user.consents_generation,
        registration_id=client.record.registration_id,
    )
    recorded = replace(consent, **copy)
    with wire.before("TransactWriteItems", partial(store.consents.put, recorded)):
        answer = browser.send(page, decision="allow_always")
    assert store.consents.get(user.sub, client.id) == recorded
    assert "tag" in browser.follow(answer).form.fields, "the user is asked again"


def test_session_is_not_extended_by_a_request_that_read_it_before_another_sign_in(site: Site, browser: Browser) -> None:
    """The end of a session depends on the time of the sign-in."""
    site.user("alice")
    browser.code(site.client())
    (session,) = site.server.store.sessions.scan()
    site.clock.advance(site.settings.session_idle_lifetime // 2)
    extend(site.server, replace(session, auth_time=session.auth_time - 1), by_browser=True)
    assert list(site.server.store.sessions.scan()) == [session]
    extend(site.server, session, by_browser=True)
    assert list(site.server.store.sessions.scan()) != [session]


def test_consent_with_a_claim_alone_is_not_empty() -> None:
    assert not Consent("alice", "client", claims=frozenset({"email"})).empty
    assert not Consent("alice", "client", scope=frozenset({"email"})).empty
    assert Consent("alice", "client").empty
