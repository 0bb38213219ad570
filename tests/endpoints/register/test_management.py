"""Management of a registration (RFC 7592): read, replace, delete; tokens, races and endings."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from chalicelib.clients.client_lifetime import LIFETIME
from chalicelib.clients.dynamic_registration import RETRY_WINDOW
from chalicelib.protocol.durations import DAY
from tests.endpoints.register.conftest import (
    REGISTER,
    URI,
    as_client,
    bearer,
    manage,
    record,
    registered,
    replacement,
)
from tests.support import faults
from tests.support.browser import Browser
from tests.support.faults import Wire
from tests.support.gateways import GATEWAYS, Gateway, GatewayBrowser
from tests.support.site import Site
from tests.support.threads import run_concurrently

pytestmark = pytest.mark.spec("RFC 7592 §2")
Browsers = Callable[..., Browser]
METHODS = ["GET", "PUT", "DELETE"]


@pytest.fixture
def app(open_site: Site, browsers: Browsers) -> Browser:
    return browsers(open_site)


@pytest.mark.parametrize("gateway", GATEWAYS, ids=lambda gateway: gateway.name)
def test_every_gateway_passes_the_methods(open_site: Site, app: Browser, gateway: Gateway) -> None:
    members = registered(app)
    behind = GatewayBrowser(open_site, gateway)
    uri = {"registration_client_uri": f"{REGISTER}?client_id={members['client_id']}"}
    assert manage(behind, "GET", members | uri).status == 200
    changed = manage(behind, "PUT", members | uri, replacement(members, client_name="Other")).json
    assert changed["client_name"] == "Other"
    assert manage(behind, "DELETE", changed | uri).status == 204


@pytest.mark.spec("RFC 7592 §2.2 a", "RFC 7592 §2.2 b")
def test_update_replaces_all_members(app: Browser) -> None:
    members = registered(app, client_uri="https://app.example.com/", scope="openid email")
    changed = manage(app, "PUT", members, {"client_id": members["client_id"], "redirect_uris": [URI]}).json
    assert "client_uri" not in changed
    assert changed["client_name"] == "app.example.com"
    assert changed["scope"] == app.site.settings.open_client_scope
    assert changed["grant_types"] == ["authorization_code"]
    assert changed["token_endpoint_auth_method"] == "client_secret_basic"
    assert changed["client_id_issued_at"] == members["client_id_issued_at"]
    assert len(changed["client_secret"]) > 40, "the client has one now"


def test_update_without_a_scope_has_the_default_one_again(open_site: Site, app: Browser) -> None:
    """A member that is left out is deleted (RFC 7592 section 2.2), and not kept."""
    open_site.user()
    members = registered(app, scope="openid")
    assert app.tokens(as_client(open_site, members), scope=None)["scope"] == "openid"
    changed = manage(app, "PUT", members, replacement(members, scope=None)).json
    assert changed["scope"] == open_site.settings.open_client_scope
    record_of_client = record(open_site, members)
    assert (record_of_client.default_scope, record_of_client.scope) == (None, open_site.settings.open_client_scope)


@pytest.mark.spec("RFC 7592 §2.2 f")
def test_update_leaves_out_what_it_ignores(open_site: Site, app: Browser) -> None:
    members = registered(app, client_uri="https://app.example.com/", logo_uri="https://app.example.com/logo.png")
    changes = {"client_uri": "http://localhost:6274", "logo_uri": "javascript:alert(1)"}
    changed = manage(app, "PUT", members, replacement(members, **changes)).json
    assert not changes.keys() & changed.keys()
    client = record(open_site, members)
    assert (client.client_uri, client.logo_uri) == (None, None)


@pytest.mark.spec("RFC 7592 §5 a")
def test_registration_access_token_lasts_as_long_as_the_client(open_site: Site, app: Browser) -> None:
    open_site.user()
    members = registered(app)
    client = as_client(open_site, members)
    tokens = app.tokens(client, scope="openid offline_access")
    for _ in range(5):
        open_site.clock.advance(25 * DAY)
        tokens = app.refresh(client, tokens["refresh_token"]).json
        assert manage(app, "GET", members).status == 200
    open_site.clock.advance(LIFETIME)
    assert manage(app, "GET", members).status == 401


def test_update_keeps_what_the_operator_has_set_except_privileges(open_site: Site, app: Browser) -> None:
    members = registered(app)
    client = record(open_site, members)
    own = replace(client, trusted=True, access_token_lifetime=60, strict_scope=True, default_redirect_uri=URI)
    open_site.server.store.clients.put(own)
    uri = "https://other.example.com/cb"
    assert manage(app, "PUT", members, replacement(members, redirect_uris=[uri])).status == 200
    changed = record(open_site, members)
    assert (changed.access_token_lifetime, changed.strict_scope) == (60, True)
    assert (changed.trusted, changed.default_redirect_uri, changed.redirect_uris) == (False, None, (uri,))


def test_secret_stays_when_a_client_is_updated(open_site: Site, app: Browser) -> None:
    members = registered(app, token_endpoint_auth_method="client_secret_basic")
    changed = manage(app, "PUT", members, replacement(members, client_name="Other")).json
    assert "client_secret" not in changed
    open_site.user()
    assert app.tokens(as_client(open_site, members))["token_type"] == "Bearer"


def test_repeated_update_returns_the_secret_that_may_be_lost(open_site: Site, app: Browser) -> None:
    members = registered(app)
    body = replacement(members, token_endpoint_auth_method="client_secret_basic")
    lost = manage(app, "PUT", members, body).json
    repeated = manage(app, "PUT", members, body).json
    open_site.user()
    assert repeated["client_secret"] != lost["client_secret"]
    for answer in (lost, repeated):
        assert app.tokens(as_client(open_site, answer))["token_type"] == "Bearer"
    assert "client_secret" not in manage(app, "PUT", repeated, replacement(repeated)).json


BAD_UPDATES: dict[str, tuple[dict[str, Any], str]] = {
    "no client_id": ({"client_id": None}, "invalid_client_metadata"),
    "another client_id": ({"client_id": "other"}, "invalid_client_metadata"),
    "another secret": ({"client_secret": "other"}, "invalid_client_metadata"),
    "a number as secret": ({"client_secret": 1}, "invalid_client_metadata"),
    "no redirect_uris": ({"redirect_uris": None}, "invalid_redirect_uri"),
    "a bad redirect URI": ({"redirect_uris": ["javascript:alert(1)"]}, "invalid_redirect_uri"),
    "a bad grant type": ({"grant_types": ["client_credentials"]}, "invalid_client_metadata"),
}


@pytest.mark.spec("RFC 7592 §2.2 c", "RFC 7592 §2.2 d", "RFC 7592 §2.2 e")
@pytest.mark.parametrize("case", BAD_UPDATES)
def test_bad_update_changes_nothing(open_site: Site, app: Browser, case: str) -> None:
    members = registered(app, token_endpoint_auth_method="client_secret_basic")
    before = record(open_site, members)
    changes, error = BAD_UPDATES[case]
    answer = manage(app, "PUT", members, replacement(members, **changes))
    assert (answer.status, answer.json["error"]) == (400, error)
    assert record(open_site, members) == before


@pytest.mark.spec("RFC 7592 §2.1 a", "RFC 7592 §2.1 c", "RFC 7592 §2.2 g", "RFC 7592 §2.3 d")
@pytest.mark.parametrize("method", METHODS)
def test_unknown_client_and_wrong_token_get_the_same_answer(
    open_site: Site, app: Browser, wire: Wire, method: str
) -> None:
    members, other = registered(app), registered(app, client_name="Other")
    operators = open_site.client()
    disabled = registered(app, client_name="Disabled")
    open_site.server.store.clients.put(replace(record(open_site, disabled), disabled_at=1))
    own = members["registration_access_token"]
    cases: list[tuple[str, dict[str, str]]] = [
        (f"{REGISTER}?client_id={members['client_id']}", bearer(other["registration_access_token"])),
        (f"{REGISTER}?client_id={members['client_id']}", {}),
        (f"{REGISTER}?client_id={members['client_id']}", bearer("")),
        (
            f"{REGISTER}?client_id={members['client_id']}",
            bearer(record(open_site, members).registration_token_hash or ""),
        ),
        (f"{REGISTER}?client_id=unknown", bearer(own)),
        (f"{REGISTER}?client_id={operators.id}", bearer(own)),
        (f"{REGISTER}?client_id={operators.id}", bearer("")),
        (disabled["registration_client_uri"], bearer(disabled["registration_access_token"])),
        (REGISTER, bearer(own)),
    ]
    answers = set()
    for uri, headers in cases:
        wire.calls.clear()
        answer = app.request(method, uri, "{}" if method == "PUT" else None, headers)
        challenge = answer.header("www-authenticate") or ""
        assert challenge.startswith('Bearer realm="registration"')
        answers.add((answer.status, answer.body, challenge, tuple(wire.calls)))
    assert len(answers) == 1
    assert next(iter(answers))[0] == 401
    assert len(list(open_site.server.store.clients.scan())) == 4


def test_replaced_token_can_repeat_an_update_for_a_minute(open_site: Site, app: Browser) -> None:
    members = registered(app)
    body = replacement(members, client_name="Other")
    lost = manage(app, "PUT", members, body).json
    open_site.clock.advance(RETRY_WINDOW - 1)
    repeated = manage(app, "PUT", members, body)
    assert repeated.status == 200
    assert manage(app, "GET", lost).status == 401, "the answer that was lost has no valid token"
    open_site.clock.advance(1)
    assert manage(app, "GET", members).status == 401, "a repeated update does not extend the minute"
    assert manage(app, "GET", repeated.json).status == 200


@pytest.mark.spec("RFC 7592 §2.1 e")
def test_reading_does_not_replace_the_token(app: Browser) -> None:
    members = registered(app)
    assert [manage(app, "GET", members).json for _ in range(2)] == [members, members]


@pytest.mark.parametrize(
    ("changes", "ends"),
    [
        ({"client_name": "Other"}, False),
        ({"redirect_uris": [URI, "https://other.example.com/cb"]}, True),
        ({"token_endpoint_auth_method": "client_secret_post"}, True),
        ({"redirect_uris": [URI], "client_uri": "https://app.example.com/"}, False),
    ],
    ids=["name", "redirect URI", "authentication method", "client URI"],
)
def test_another_redirect_uri_or_authentication_ends_grants_and_consents(
    open_site: Site, app: Browser, changes: dict[str, Any], ends: bool
) -> None:
    open_site.user()
    members = registered(app)
    tokens = app.tokens(as_client(open_site, members), decision="allow_always")
    changed = manage(app, "PUT", members, replacement(members, **changes)).json
    assert app.userinfo(tokens["access_token"]).status == (401 if ends else 200)
    asks = app.authorize(as_client(open_site, changed)).status == 200
    assert asks is ends


def test_parallel_updates_leave_one_valid_token(open_site: Site, app: Browser, browsers: Browsers) -> None:
    members = registered(app)

    def update(name: str) -> Any:
        return manage(browsers(open_site), "PUT", members, replacement(members, client_name=name))

    answers = run_concurrently([lambda name=name: update(name) for name in ("A", "B", "C")])  # type: ignore[misc]
    assert {answer.status for answer in answers} == {200}
    valid = [answer for answer in answers if manage(app, "GET", answer.json).status == 200]
    assert len(valid) == 1
    assert record(open_site, members).client_name == valid[0].json["client_name"]


def test_update_that_loses_against_a_deletion_does_not_bring_the_client_back(
    open_site: Site, app: Browser, browsers: Browsers, wire: Wire
) -> None:
    members = registered(app)
    other = browsers(open_site)
    with wire.before("UpdateItem", lambda: manage(other, "DELETE", members)):
        answer = manage(app, "PUT", members, replacement(members))
    assert answer.status == 401
    assert not list(open_site.server.store.clients.scan())


def test_deletion_that_loses_against_another_is_a_401(
    open_site: Site, app: Browser, browsers: Browsers, wire: Wire
) -> None:
    members = registered(app)
    other = browsers(open_site)
    with wire.before("TransactWriteItems", lambda: open_site.server.store.clients.delete(members["client_id"])):
        assert manage(other, "DELETE", members).status == 401


CHANGES: dict[str, dict[str, Any]] = {
    "disabled by the operator": {"disabled_at": 1},
    "updated twice": {"registration_token_hash": "x", "previous_registration_token_hash": "y"},
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_client_that_is_changed_in_between_is_neither_updated_nor_deleted(
    open_site: Site, app: Browser, wire: Wire, method: str, change: str
) -> None:
    members = registered(app)
    changed = replace(record(open_site, members), **CHANGES[change])
    operation = {"PUT": "UpdateItem", "DELETE": "TransactWriteItems"}[method]
    with wire.before(operation, lambda: open_site.server.store.clients.put(changed)):
        assert manage(app, method, members, replacement(members)).status == 401
    assert record(open_site, members) == changed


@pytest.mark.parametrize(("age", "status"), [(RETRY_WINDOW - 1, 204), (RETRY_WINDOW, 401)])
def test_replaced_token_deletes_the_client_for_a_minute(
    open_site: Site, app: Browser, wire: Wire, age: int, status: int
) -> None:
    """The update comes between the authentication of the deletion and its write."""
    members = registered(app)
    client = record(open_site, members)
    changed = replace(
        client,
        registration_token_hash="x",
        previous_registration_token_hash=client.registration_token_hash,
        registration_token_replaced_at=open_site.clock() - age,
    )
    with wire.before("TransactWriteItems", lambda: open_site.server.store.clients.put(changed)):
        assert manage(app, "DELETE", members).status == status
    assert (open_site.server.store.clients.get(client.client_id) is None) is (status == 204)


def test_refresh_beside_a_deletion_gives_tokens_that_have_ended(
    open_site: Site, app: Browser, browsers: Browsers, wire: Wire
) -> None:
    open_site.user()
    members = registered(app)
    client = as_client(open_site, members)
    tokens = app.tokens(client)
    other = browsers(open_site)
    with wire.before("UpdateItem", lambda: manage(other, "DELETE", members)):
        answer = app.refresh(client, tokens["refresh_token"])
    token = answer.json.get("access_token", tokens["access_token"])
    assert app.userinfo(token).status == 401
    assert not list(open_site.server.store.clients.scan())


@pytest.mark.parametrize("fault", [faults.no_response, faults.throttled, faults.answer_lost])
@pytest.mark.parametrize("method", METHODS)
def test_request_can_be_repeated_after_a_fault(
    open_site: Site, app: Browser, wire: Wire, method: str, fault: faults.Fault
) -> None:
    members = registered(app)
    before = record(open_site, members)
    with wire.fault(0, fault):
        answer = manage(app, method, members, replacement(members))
    assert (answer.status, answer.json["error"]) == (503, "temporarily_unavailable")
    assert record(open_site, members) == before
    assert manage(app, method, members, replacement(members)).status in (200, 204)
