"""Authorization details in authorization requests, pushed or not, and on the consent page (RFC 9396)."""

import json
import re
from html import unescape
from typing import Any

import pytest

from chalicelib.protocol.authorization_details import to_text
from tests.endpoints.authorize.conftest import asks_for_consent, is_nothing_stored, read_grant
from tests.support.authorization_details import (
    ALBUM,
    ALBUMS,
    ANYWHERE,
    PAYMENT,
    PAYMENTS,
    TYPES,
    as_json,
    register_asking_client,
    register_type,
    register_types,
)
from tests.support.browser import Answer, Browser, authorization_parameters, basic
from tests.support.grants import update_client
from tests.support.site import Registered, Site

pytestmark = pytest.mark.spec("RFC 9396 §3")
INVALID = "invalid_authorization_details"


@pytest.fixture
def client(site: Site) -> Registered:
    """A client that may ask for every type. Alice, who is asked for consent, has an account."""
    site.user()
    return register_asking_client(site, trusted=False)


def detail(**members: Any) -> str:
    return as_json(ANYWHERE | members)


def payment(**members: Any) -> str:
    return as_json({name: value for name, value in (PAYMENT | members).items() if value is not None})


REFUSED: list[tuple[str, str, str]] = [
    ("not JSON", "payment", "not JSON"),
    ("cut off", '[{"type":"payment"', "not JSON"),
    ("with something after it", as_json(ANYWHERE) + "[]", "not JSON"),
    ("of Python", "[{'type': 'anywhere'}]", "not JSON"),
    ("an object", json.dumps(ANYWHERE), "array of objects"),
    ("a string", '"anywhere"', "array of objects"),
    ("null", "null", "array of objects"),
    ("an empty array", "[]", "array of objects"),
    ("an array of strings", '["anywhere"]', "array of objects"),
    ("an object beside null", as_json(ANYWHERE, None), "array of objects"),
    ("an array in the array", as_json([ANYWHERE]), "array of objects"),
    ("without a type", as_json({"actions": ["list"]}), "must have a type"),
    ("type null", as_json({"type": None}), "must have a type"),
    ("type a number", as_json({"type": 1}), "must have a type"),
    ("type an array", as_json({"type": ["anywhere"]}), "must have a type"),
    ("type empty", as_json({"type": ""}), "not registered for the type"),
    ("type unknown", as_json({"type": "unknown"}), "not registered for the type unknown"),
    ("type in capitals", as_json({"type": "Anywhere"}), "not registered for the type Anywhere"),
    ("type with a space after it", as_json({"type": "anywhere "}), "not registered for the type"),
    ("type with NUL", as_json({"type": "anywhere\0"}), "not registered for the type"),
    ("type composed otherwise", as_json({"type": "anywhe\u0301re"}), "not registered for the type"),
    ("type of another client", as_json({"type": "foreign"}), "not registered for the type foreign"),
    ("type that the operator has deleted", as_json({"type": "deleted"}), "No type deleted is registered"),
    ("type the key of a resource", as_json({"type": ALBUMS}), "not registered for the type"),
    ("a known type beside an unknown one", as_json(ANYWHERE, {"type": "unknown"}), "for the type unknown"),
    ("member unknown", detail(amount=1), "has no member amount"),
    ("member in capitals", as_json({"type": "anywhere", "Actions": ["list"]}), "has no member Actions"),
    ("member empty", detail(**{"": 1}), "has no member "),
    ("member of another type", detail(creditorName="A"), "has no member creditorName"),
    ("required member missing", payment(instructedAmount=None), "requires the member instructedAmount"),
    ("actions a string", detail(actions="list"), "actions must be an array of strings"),
    ("actions null", detail(actions=None), "actions must be an array of strings"),
    ("actions an object", detail(actions={"list": True}), "actions must be an array of strings"),
    ("actions empty", detail(actions=[]), "actions must be an array of strings"),
    ("actions of an empty string", detail(actions=[""]), "actions must be an array of strings"),
    ("actions of numbers", detail(actions=[1]), "actions must be an array of strings"),
    ("actions of arrays", detail(actions=[["list"]]), "actions must be an array of strings"),
    ("datatypes a string", detail(datatypes="contacts"), "datatypes must be an array of strings"),
    ("privileges true", detail(privileges=True), "privileges must be an array of strings"),
    ("locations a string", detail(locations=ALBUMS), "locations must be an array of strings"),
    ("identifier an array", detail(identifier=["a"]), "identifier must be a string"),
    ("identifier a number", detail(identifier=1), "identifier must be a string"),
    ("identifier null", detail(identifier=None), "identifier must be a string"),
    ("location unknown", detail(locations=["https://evil.example/"]), "No resource is registered with the location"),
    ("location below a resource", detail(locations=[ALBUMS + "/1"]), "No resource is registered with the location"),
    ("location in capitals", detail(locations=[ALBUMS.upper()]), "No resource is registered with the location"),
    ("location with the default port", detail(locations=["https://api.example.com:443/albums"]), "No resource"),
    ("location no URI", detail(locations=["here"]), "No resource is registered with the location here"),
    ("location that no key can be", detail(locations=["x" * 3000]), "No resource is registered with the location"),
    ("location of another resource than the type's", payment(locations=[ALBUMS]), "has the only location"),
    ("one of two locations of another resource", payment(locations=[PAYMENTS, ALBUMS]), "has the only location"),
    ("a member twice", '[{"type":"anywhere","identifier":"a","identifier":"b"}]', "repeat a member"),
    ("a type twice", '[{"type":"anywhere","type":"payment"}]', "repeat a member"),
    ("a nested member twice", '[{"type":"payment","instructedAmount":{"a":1,"a":2}}]', "repeat a member"),
    ("the same object twice", as_json(ANYWHERE, ANYWHERE), "are the same"),
    ("the same object in another order", as_json(ANYWHERE, dict(reversed(ANYWHERE.items()))), "are the same"),
    ("too many objects", as_json(*(ANYWHERE | {"identifier": str(n)} for n in range(11))), "more than 10 objects"),
    ("too long", detail(identifier="x" * 8200), "longer than 8192"),
    ("too long with escapes", detail(identifier="é" * 1400), "longer than 8192"),
    ("too many values", payment(creditorAccount=[0] * 101), "more than 100 values"),
    ("nested too deeply", payment(creditorAccount=[[[[[[[["x"]]]]]]]]), "nested in more than 8 levels"),
    ("nested 4,000 deep", "[" * 4000 + "]" * 4000, "array of objects|not JSON"),
    ("objects nested 1,300 deep", '[{"a":' * 1300 + "1" + "}]" * 1300, "longer than 8192"),
    (
        "a value nested 3,000 deep",
        '[{"type":"payment","creditorAccount":' + "[" * 3000 + "]" * 3000 + "}]",
        "nested|not JSON",
    ),
    ("not a number", '[{"type":"payment","instructedAmount":NaN}]', "not JSON"),
    ("infinite", '[{"type":"payment","instructedAmount":Infinity}]', "not JSON"),
    ("a number that is infinite", '[{"type":"payment","instructedAmount":1e999}]', "too large"),
    ("a number of 20 digits", '[{"type":"payment","instructedAmount":12345678901234567890}]', "too large"),
    ("a number below zero of 20 digits", '[{"type":"payment","instructedAmount":-12345678901234567890}]', "too large"),
    ("a number of 5,000 digits", '[{"type":"payment","instructedAmount":' + "9" * 5000 + "}]", "not JSON"),
    ("a lone surrogate", payment(creditorName="\ud800"), "not valid Unicode"),
    ("a lone surrogate in a name", '[{"type":"payment","instructedAmount":{"\\udfff":1}}]', "not valid Unicode"),
    ("the issuer as location", "ISSUER", "The issuer is no location"),
    (
        "more locations than a request may name resources",
        detail(locations=[f"{ALBUMS}/{number}" for number in range(11)]),
        "for more than 10 resources",
    ),
    (
        "more locations together",
        as_json(*(ANYWHERE | {"locations": [f"{ALBUMS}/{n}{each}" for n in range(6)]} for each in "ab")),
        "for more than 10 resources",
    ),
]


@pytest.mark.spec("RFC 9396 §2", "RFC 9396 §2.2", "RFC 9396 §5 a", "RFC 9396 §5 b", "RFC 9396 §12")
@pytest.mark.parametrize(("problem", "text", "description"), REFUSED, ids=[row[0] for row in REFUSED])
def test_wrong_details_are_refused_by_redirect_and_at_the_pushed_request_endpoint(
    site: Site, browser: Browser, client: Registered, problem: str, text: str, description: str
) -> None:
    register_type(site, "foreign", "Other")
    update_client(site, client, authorization_details_types=(*TYPES, "deleted"))
    text = detail(locations=[site.settings.issuer]) if text == "ISSUER" else text
    answer = browser.authorize(client, authorization_details=text, state="af0if").answer
    assert (answer["error"], answer["state"], answer["iss"]) == (INVALID, "af0if", site.settings.issuer)
    pushed = push(browser, client, authorization_details=text)
    assert (pushed.status, pushed.json["error"]) == (400, INVALID)
    assert re.search(description, pushed.json["error_description"]), pushed.json
    assert answer["error_description"] == pushed.json["error_description"]
    assert is_nothing_stored()


def push(browser: Browser, client: Registered, **parameters: Any) -> Answer:
    sent = {name: value for name, value in authorization_parameters(client, **parameters).items() if value is not None}
    return browser.post("/oauth2/par", sent, basic(client.id, client.secret or ""))


def test_details_that_no_parameter_can_have_are_an_invalid_request(browser: Browser, client: Registered) -> None:
    for value in ([as_json(ANYWHERE), as_json(ANYWHERE)], as_json(ANYWHERE) + "\x0b", "[" * 65537):
        assert push(browser, client, authorization_details=value).json["error"] == "invalid_request"


def test_client_without_types_may_ask_for_none(site: Site, browser: Browser) -> None:
    register_types(site)
    answer = browser.authorize(site.client(), authorization_details=as_json(ANYWHERE)).answer
    assert answer["error"] == INVALID


# ---- consent


def shown(page: Answer) -> list[str]:
    """Return the lines of the details on a page: texts of types, labels, and values with their places."""
    part = page.body.partition("It asks for your permission to")[2].partition("</section>\n<p class")[0]
    lines = re.findall(r"<h3>(.*?)</h3>|<dt>(.*?)</dt>|<dd>(.*?)</dd>", part, re.DOTALL)
    return [unescape(re.sub(r"</?bdi>", "", "".join(line))) for line in lines]


@pytest.mark.spec("RFC 9396 §3.1 a", "RFC 9396 §3.1 b")
def test_consent_page_shows_the_scope_and_every_value_of_the_details(browser: Browser, client: Registered) -> None:
    details = as_json(PAYMENT | {"recurring": False}, ALBUM)
    page = browser.sign_in(browser.authorize(client, scope="openid email", authorization_details=details))
    assert shown(page) == [
        *("Make a payment", "Instructed amount", "amount: 123.50<br>currency: EUR"),
        *("Payee", "Merchant A", "Recurring", "no"),
        *("Use one of your albums", "Where", ALBUMS, "Actions", "read<br>write", "Album", "holidays"),
    ]
    assert "Recognize you" in page.body
    assert page.body.index("Recognize you") < page.body.index("Make a payment")
    resource = '<strong><bdi>Photos</bdi></strong> <span class="whole">(<bdi>api.example.com</bdi>)'
    assert resource in page.body, "the resources are named"
    assert "Remember my choice" not in page.body, "details are allowed once"


@pytest.mark.spec("RFC 9396 §12 b")
def test_hostile_values_are_escaped_isolated_and_visible(browser: Browser, client: Registered) -> None:
    hostile = {
        "creditorName": "<script>alert(1)</script> {{ 7*7 }}",
        "creditorAccount": {"a\u202eb": "\u202eabc", "<b>": ["\0", "x\ny", "\u200b", {"z": ""}], "e": [], "": None},
    }
    page = browser.sign_in(browser.authorize(client, authorization_details=payment(**hostile)))
    assert "<script>alert" not in page.body
    assert "<b>" not in page.body
    assert not {"\u202e", "\u200b", "\0"} & {*page.body}
    assert shown(page)[3:] == [
        *("Payee", "<script>alert(1)</script> {{ 7*7 }}", "Creditor account"),
        r": –<br><b>: 1: \u0000<br><b>: 2: x\u000ay<br><b>: 3: \u200b<br><b>: 4: z: –<br>a\u202eb: \u202eabc<br>e: –",
    ]
    assert "<bdi>&lt;script&gt;" in page.body


def test_details_are_asked_for_each_time_and_never_remembered(site: Site, browser: Browser, client: Registered) -> None:
    details = as_json(ANYWHERE)
    browser.code(client, decision="allow_always", scope="openid", authorization_details=details)
    assert [consent.empty for consent in site.server.store.consents.scan()] in ([], [True])
    assert asks_for_consent(browser.authorize(client, scope="openid", authorization_details=details))
    browser.code(client, decision="allow_always", scope="openid")
    assert browser.authorize(client, scope="openid").code, "the scope alone is remembered"
    assert asks_for_consent(browser.authorize(client, scope="openid", authorization_details=details))
    none = browser.authorize(client, scope="openid", authorization_details=details, prompt="none")
    assert none.answer["error"] == "consent_required"


def test_denied_details_are_not_granted(site: Site, browser: Browser, client: Registered) -> None:
    page = browser.sign_in(browser.authorize(client, authorization_details=as_json(ANYWHERE)))
    assert browser.submit(page, decision="deny").answer["error"] == "access_denied"
    assert not [*site.server.store.grants.scan()]


def test_trusted_client_needs_no_consent_for_details(site: Site, browser: Browser, client: Registered) -> None:
    browser.code(client, scope="openid")
    update_client(site, client, trusted=True)
    assert browser.authorize(client, authorization_details=as_json(ANYWHERE)).code


def test_changed_details_make_a_form_invalid(site: Site, browser: Browser, client: Registered) -> None:
    page = browser.sign_in(browser.authorize(client, authorization_details=payment(creditorName="Merchant A")))
    assert "Merchant+A" in (page.form.action or "")
    answer = browser.post(
        (page.form.action or "").replace("Merchant+A", "Merchant+B"), {**page.form.fields, "decision": "allow"}
    )
    assert answer.status == 303
    assert not [*site.server.store.grants.scan()]


@pytest.mark.parametrize("way", ["query", "post", "pushed", "long"])
def test_details_are_granted_as_they_were_asked_for(site: Site, browser: Browser, client: Registered, way: str) -> None:
    long = {"creditorName": "M" * 5000} if way == "long" else {}
    details = [PAYMENT | long, ALBUM]
    parameters: dict[str, Any] = {"scope": "openid other", "authorization_details": as_json(*details)}
    if way == "pushed":
        uri = push(browser, client, **parameters).json["request_uri"]
        page = browser.get("/oauth2/authorize", client_id=client.id, request_uri=uri)
    elif way == "post":
        page = browser.post("/oauth2/authorize", authorization_parameters(client, **parameters))
        page = browser.get(page.location)
    else:
        page = browser.authorize(client, **parameters)
        page = browser.get(page.location) if page.status == 302 else page
    answer = browser.submit(browser.sign_in(page), decision="allow")
    grant = read_grant(site, answer.code)
    assert [json.loads(text) for text in grant.authorization_details or ()] == details
    assert {*grant.scope} == {"openid", "other"}
    assert {*grant.resource} == {PAYMENTS, ALBUMS}


@pytest.mark.spec("RFC 9396 §3.2")
def test_named_resource_limits_the_scope_and_not_the_details(site: Site, browser: Browser, client: Registered) -> None:
    details = as_json(PAYMENT)
    for resource, scope, resources in (
        (None, {"openid", "other"}, {PAYMENTS}),
        (PAYMENTS, {"openid"}, {PAYMENTS}),
        (ALBUMS, {"openid", "other"}, {PAYMENTS, ALBUMS}),
    ):
        code = browser.code(client, scope="openid other", resource=resource, authorization_details=details)
        grant = read_grant(site, code)
        assert ({*grant.scope}, {*grant.resource}) == (scope, resources), resource


def test_request_with_details_needs_no_scope(site: Site, browser: Browser, client: Registered) -> None:
    update_client(site, client, default_scope="")
    assert browser.authorize(client, scope=None).answer["error"] == "invalid_scope"
    code = browser.code(client, scope=None, authorization_details=as_json(PAYMENT))
    assert read_grant(site, code).scope == frozenset()
    tokens = browser.redeem(client, code).json
    assert tokens["authorization_details"] == [PAYMENT]
    assert "scope" not in tokens
    assert browser.userinfo(tokens["access_token"]).status == 401
    assert browser.refresh(client, tokens["refresh_token"]).json["authorization_details"] == [PAYMENT]


def test_request_ends_when_its_client_loses_the_type(site: Site, browser: Browser, client: Registered) -> None:
    uri = push(browser, client, authorization_details=as_json(PAYMENT)).json["request_uri"]
    page = browser.sign_in(browser.get("/oauth2/authorize", client_id=client.id, request_uri=uri))
    update_client(site, client, authorization_details_types=("album",))
    answer = browser.submit(page, decision="allow")
    assert answer.status in (303, 400)
    assert not [*site.server.store.grants.scan()]


def test_stored_request_whose_type_was_deleted_is_refused_and_not_shown_without_it(
    site: Site, browser: Browser, client: Registered
) -> None:
    uri = push(browser, client, authorization_details=as_json(PAYMENT)).json["request_uri"]
    browser.code(client, scope="openid")
    site.server.store.authorization_types.delete("authorization_type payment")
    site.clock.advance(60)
    answer = browser.get("/oauth2/authorize", client_id=client.id, request_uri=uri)
    assert answer.answer["error"] == INVALID


def test_type_that_was_changed_since_it_was_cached_is_read_again(
    site: Site, browser: Browser, client: Registered
) -> None:
    assert asks_to_sign_in_or_consent(browser.authorize(client, authorization_details=as_json(ANYWHERE)))
    changed = as_json(ANYWHERE | {"more": 1})
    assert browser.authorize(client, authorization_details=changed).answer["error"] == INVALID
    type_ = site.server.store.authorization_types.get("authorization_type anywhere")
    assert type_
    site.server.store.authorization_types.transition((type_.resource_id,), None, {"members": (*type_.members, "more")})
    assert asks_to_sign_in_or_consent(browser.authorize(client, authorization_details=changed))


def asks_to_sign_in_or_consent(page: Answer) -> bool:
    return page.status == 200 and "error" not in page.body.partition("<main")[0]


@pytest.mark.parametrize("character", ["\n", "\t", "\x00", "\x7f", "\x85"])
def test_control_character_in_a_value_is_rejected(browser: Browser, client: Registered, character: str) -> None:
    text = as_json(PAYMENT | {"creditorName": "A@B"}).replace("@", character)
    answer = browser.authorize(client, authorization_details=text).answer
    assert answer["error"] in (INVALID, "invalid_request")


@pytest.mark.parametrize("pushed", [False, True], ids=["by the browser", "pushed"])
def test_json_with_line_breaks_is_the_same_as_without(
    site: Site, browser: Browser, client: Registered, pushed: bool
) -> None:
    """As programs and people write it, also in the example of docs/authorization-details.md."""
    text = json.dumps([PAYMENT], indent="\t").replace("\n", "\r\n")
    parameters: dict[str, Any] = {"scope": "openid", "authorization_details": text}
    if pushed:
        uri = push(browser, client, **parameters).json["request_uri"]
        page = browser.get("/oauth2/authorize", client_id=client.id, request_uri=uri)
    else:
        page = browser.authorize(client, **parameters)
    code = browser.submit(browser.sign_in(page), decision="allow").code
    assert read_grant(site, code).authorization_details == (to_text(PAYMENT),)


def test_line_break_in_a_string_of_the_json_is_refused(browser: Browser, client: Registered) -> None:
    text = payment(creditorName="Merchant A").replace("Merchant A", "Merchant\nA")
    answer = browser.authorize(client, scope="openid", authorization_details=text).answer
    assert (answer["error"], "not JSON" in answer["error_description"]) == (INVALID, True)
