"""A user deletes the account while something else happens, with the calls of both in every order."""

from contextlib import suppress
from dataclasses import replace
from functools import partial

from chalicelib import events
from chalicelib.protocol.durations import DAY
from chalicelib.protocol.errors import AccessDenied
from chalicelib.storage.store import Store
from chalicelib.users import accounts, deletion
from tests.guarantees.orders import Action, every_order
from tests.guarantees.test_pressed_twice_orders import Scene
from tests.support.account import account_form, is_signed_in, open_sign_in, sign_in_to_account, submit_form
from tests.support.browser import Answer
from tests.support.faults import Wire
from tests.support.gateways import HTTP_2, GatewayBrowser
from tests.support.site import PASSWORD, Site

NEW_PASSWORD = "another pass phrase"


def form_of(browser: GatewayBrowser) -> Answer:
    return browser.get("/account/delete")


def press_delete(browser: GatewayBrowser, page: Answer) -> Answer:
    return browser.send(page, action="delete", password=PASSWORD)


def names_of(scene: Scene) -> list[str]:
    return [event.name for event in scene.site.server.store.events.scan()]


def test_delete_pressed_twice_deletes_once(site: Site, wire: Wire) -> None:
    scene = Scene(site)

    def actions() -> list[Action]:
        browser = scene.start()
        sign_in_to_account(browser)
        page = form_of(browser)
        return scene.twice(browser, partial(press_delete, page=page))

    orders = 0
    for order in every_order(wire, actions):
        orders += 1
        answers: list[Answer] = [result for _, result in order.results]
        assert {(answer.status, answer.location) for answer in answers} == {(303, "/account/restore")}, order
        assert names_of(scene).count(events.ACCOUNT_DELETED) == 1, order
        assert len(list(site.server.store.deletions.find("outbox", "deletions", index="due"))) == 1, order
        user = site.read_user()
        assert user.sessions_generation == scene.user.sessions_generation + 1, order
    assert orders > 1


def test_sign_in_that_competes_with_the_deletion_leaves_no_session(site: Site, wire: Wire) -> None:
    scene = Scene(site)
    second: list[GatewayBrowser] = []

    def actions() -> list[Action]:
        browser, other = scene.start(), GatewayBrowser(site, HTTP_2)
        sign_in_to_account(browser)
        second[:] = [other]
        page, sign_in = form_of(browser), open_sign_in(other)
        return [
            ("delete", partial(press_delete, browser, page)),
            ("sign in", partial(other.send, sign_in, username="alice", password=PASSWORD)),
        ]

    outcomes = set()
    for order in every_order(wire, actions):
        (_, deleted), (_, signed_in) = order.results
        assert deleted.status == 303, order
        assert site.read_user().deleted_at, order
        assert not is_signed_in(second[0]), order
        refused = signed_in.status == 400
        outcomes.add("refused" if refused else "restore" if "/account/restore" in signed_in.location else "signed in")
    assert outcomes == {"refused", "restore", "signed in"}, "all of them happen, and none keeps a session"


def test_new_password_and_deletion_leave_one_of_both(site: Site, wire: Wire) -> None:
    scene = Scene(site)

    def actions() -> list[Action]:
        browser = scene.start()
        sign_in_to_account(browser)
        page = form_of(browser)
        new = {"new_password": NEW_PASSWORD, "new_password_again": NEW_PASSWORD}
        form = account_form(browser, "change_password", password=PASSWORD, **new)
        tab, other = scene.tabs(browser)
        return [("delete", partial(press_delete, tab, page)), ("change", partial(submit_form, other, form))]

    for order in every_order(wire, actions):
        user = site.read_user()
        deleted, changed = user.deleted_at is not None, user.password_hash != scene.user.password_hash
        assert deleted or changed, order
        assert user.sessions_generation == scene.user.sessions_generation + deleted + changed, order


def test_restoration_and_removal_have_one_winner_whatever_their_clocks_say(site: Site, wire: Wire) -> None:
    """The clocks of two functions may differ: the conditions of the writes decide."""
    scene = Scene(site)
    due_at = scene.start_time + 14 * DAY
    late = Store(site.settings, lambda: due_at - 1, site.server.store.account)

    def restore() -> bool:
        with suppress(AccessDenied):
            deletion.restore(late, scene.user.sub, scene.start_time)
            return True
        return False

    def actions() -> list[Action]:
        deleted = replace(scene.user, deleted_at=scene.start_time, deletion_due_at=due_at)
        scene.start(deleted)
        site.server.store.identifiers.put(identifier)
        site.server.store.transact(deletion.schedule(site.server.store, deleted))
        site.clock.time = due_at
        return [
            ("restore", restore),
            ("remove", partial(deletion.remove_user, site.server, scene.user.sub, scene.start_time)),
        ]

    (identifier,) = site.server.store.identifiers.scan()
    winners = set()
    for order in every_order(wire, actions):
        (_, restored), (_, removed) = order.results
        assert restored is not removed, order
        users, names = list(site.server.store.users.scan()), list(site.server.store.identifiers.scan())
        assert (len(users), len(names)) == ((1, 1) if restored else (0, 0)), order
        assert not users or users[0].deleted_at is None, order
        winners.add(restored)
    assert winners == {True, False}


def test_two_runs_of_the_schedule_remove_the_account_once_and_completely(site: Site, wire: Wire) -> None:
    scene = Scene(site)
    (identifier,) = site.server.store.identifiers.scan()

    def actions() -> list[Action]:
        store = site.server.store
        deleted = replace(scene.user, deleted_at=scene.start_time, deletion_due_at=scene.start_time)
        scene.start(deleted)
        store.identifiers.put(identifier)
        store.transact(deletion.schedule(store, deleted))
        return [(f"run {number}", partial(deletion.remove_due, site.server)) for number in range(2)]

    for order in every_order(wire, actions):
        assert list(site.server.store.users.scan()) == [], order
        assert list(site.server.store.identifiers.scan()) == [], order
        assert list(site.server.store.deletions.find("outbox", "deletions", index="due")) == [], order


def test_operator_who_deletes_while_the_user_restores_wins(site: Site, wire: Wire) -> None:
    scene = Scene(site)
    (identifier,) = site.server.store.identifiers.scan()
    deleted = replace(scene.user, deleted_at=scene.start_time, deletion_due_at=scene.start_time + DAY)

    def restore() -> None:
        with suppress(AccessDenied):
            deletion.restore(site.server.store, scene.user.sub)

    def actions() -> list[Action]:
        scene.start(deleted)
        site.server.store.identifiers.put(identifier)
        return [("restore", restore), ("delete", partial(accounts.delete, site.server.store, deleted))]

    for order in every_order(wire, actions):
        assert list(site.server.store.users.scan()) == [], order
