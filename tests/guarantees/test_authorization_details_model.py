"""Model-based test of authorization details: token requests run on the server and on a model (RFC 9396 section 6.1).

The model has the set of all permissions of a grant, as tuples, without chalicelib. No token carries a permission that
was not granted for its resource, and a refused request changes nothing.
"""

import json
from functools import partial
from itertools import product
from typing import Any

import jwt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chalicelib.protocol.authorization_details import to_text
from tests.support.authorization_details import ALBUMS, PAYMENTS, TYPES, as_json, register_asking_client
from tests.support.browser import Answer, Browser
from tests.support.grants import create_code
from tests.support.site import Registered, Site

pytestmark = [pytest.mark.slow, pytest.mark.spec("RFC 9396 §6.1")]
RESOURCES = (PAYMENTS, ALBUMS)
SETS = {"actions": ("read", "write", "list"), "datatypes": ("contacts", "photos"), "privileges": ("user", "admin")}
Detail = dict[str, Any]


def subsets(values: tuple[str, ...]) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(values), min_size=1, max_size=len(values), unique=True)


PAYMENT = st.fixed_dictionaries(
    {"type": st.just("payment"), "instructedAmount": st.sampled_from([1, 2, "1", {"amount": 1}])},
    optional={"creditorName": st.sampled_from(["A", "a"])},
)
ALBUM = st.fixed_dictionaries(
    {"type": st.just("album"), "locations": st.just([ALBUMS])}, optional={"actions": subsets(SETS["actions"])}
)
ANYWHERE = st.fixed_dictionaries(
    {"type": st.just("anywhere")}, optional={name: subsets(values) for name, values in SETS.items()}
)
DETAILS = st.lists(PAYMENT | ALBUM | ANYWHERE, min_size=1, max_size=3, unique_by=to_text)
ASKING = st.none() | st.lists(st.integers(0, 2), min_size=1, max_size=2, unique=True) | DETAILS


def permissions(detail: Detail) -> set[tuple[str, ...]]:
    """Return each combination of the strings of the arrays, with the names of the arrays and all other members."""
    arrays = sorted({"locations", "actions", "datatypes", "privileges"} & detail.keys())
    rest = json.dumps({name: value for name, value in detail.items() if name not in arrays}, sort_keys=True)
    return {(rest, *arrays, *each) for each in product(*(detail[name] for name in arrays))}


def is_for(detail: Detail, resource: str) -> bool:
    return {"payment": PAYMENTS, "album": ALBUMS}.get(detail["type"], resource) == resource


def carried(answer: Answer, resource: str) -> list[Detail]:
    claims = jwt.decode(answer.json["access_token"], options={"verify_signature": False})
    assert claims["aud"] == resource
    details: list[Detail] = claims.get("authorization_details", [])
    assert answer.json.get("authorization_details", []) == details
    return details


@pytest.fixture
def client(site: Site) -> Registered:
    return register_asking_client(site, authorization_details_types=TYPES)


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(granted=DETAILS, steps=st.data())
def test_no_token_carries_more_than_was_granted(
    site: Site, browser: Browser, client: Registered, granted: list[Detail], steps: st.DataObject
) -> None:
    code = create_code(
        site,
        client,
        site.server.store.users.get("no-user"),
        scope=frozenset({"openid", "payments.read"}),
        resource=frozenset(RESOURCES),
        authorization_details=tuple(map(to_text, granted)),
    )
    token = ""
    for _ in range(steps.draw(st.integers(1, 5))):
        resource = steps.draw(st.sampled_from(RESOURCES))
        requested: Any = steps.draw(ASKING)
        if requested and isinstance(requested[0], int):  # some of what was granted, narrowed
            fewer = [narrowed(granted[number % len(granted)], steps) for number in requested]
            requested = list({to_text(each): each for each in fewer}.values())
        parameters = {"resource": resource, "authorization_details": None if requested is None else as_json(*requested)}
        redeem = partial(browser.refresh, client, token) if token else partial(browser.redeem, client, code)
        answer = redeem(**parameters)
        allowed = requested is None or all(
            is_for(each, resource) and any(permissions(each) <= permissions(other) for other in granted)
            for each in requested
        )
        if not allowed:
            assert answer.json["error"] == "invalid_authorization_details", (granted, requested)
            continue
        assert answer.status == 200, (granted, requested, answer.body)
        expected = [each for each in granted if is_for(each, resource)] if requested is None else requested
        details = carried(answer, resource)
        assert {to_text(each) for each in details} == {to_text(each) for each in expected}
        token = answer.json["refresh_token"]
    record = site.server.store.grants.get(site.server.keys.read_handle("code", code).id)  # type: ignore[union-attr]
    assert record
    assert record.authorization_details == tuple(map(to_text, granted)), "the grant never changes"
    assert record.revoked_at is None


def narrowed(detail: Detail, steps: st.DataObject) -> Detail:
    """Return an object with fewer strings in its arrays, now and then with one more or without an array."""
    arrays = {name: steps.draw(subsets(tuple(detail[name]))) for name in SETS if name in detail}
    changed = detail | arrays
    match steps.draw(st.integers(0, 9)):
        case 0 if arrays:
            name = steps.draw(st.sampled_from(sorted(arrays)))
            return changed | {name: [*changed[name], "more"]}
        case 1 if arrays:
            name = steps.draw(st.sampled_from(sorted(arrays)))
            return {other: value for other, value in changed.items() if other != name}
    return changed
