"""Levels of a sign-in, what a request demands, and the next step that follows, as tables."""

from dataclasses import replace
from typing import Any

import pytest

from chalicelib.protocol.authentication_context import (
    BY_PASSWORD,
    BY_PASSWORD_AND_CODE,
    DECLINED_PREFERENCE,
    PASSWORD,
    PHISHING_RESISTANT,
    REFEDS_MFA,
    UNREACHABLE,
    Demand,
    Policy,
    level,
    with_code,
    with_passkey,
)
from chalicelib.protocol.client import Client
from chalicelib.protocol.errors import InteractionRequired, LoginRequired, UnmetAuthenticationRequirements
from chalicelib.protocol.next_step import RECENT, SignedInUser, Step, next_step
from chalicelib.protocol.records import AuthorizationRequest, Session, User

NOW = 1_000_000
REQUEST = AuthorizationRequest("r", "c", "https://a.example/cb", NOW + 600, NOW, frozenset({"openid"}))
CLIENT = Client("c", "C", ("https://a.example/cb",), trusted=True)
USER = User("u", "alice", "", {})
WITH_FACTOR = replace(USER, totp_secret=b"sealed", totp_confirmed_at=NOW)
SESSION = Session("u.s", "u", NOW - 100, NOW + 600, request_id="another")
TWO = replace(SESSION, amr=BY_PASSWORD_AND_CODE, mfa_time=NOW - 50)

LEVELS = [
    (("pwd",), 1),
    (("otp",), 1),
    ((), 1),
    (("pwd", "otp", "mfa"), 2),
    (("otp", "mfa"), 2),
    (("pop", "user", "mfa"), 3),
    (("pwd", "pop", "user", "mfa"), 3),
]


@pytest.mark.parametrize(("amr", "expected"), LEVELS, ids=[" ".join(amr) for amr, _ in LEVELS])
def test_level_of_a_sign_in(amr: tuple[str, ...], expected: int) -> None:
    assert level(amr) == expected
    assert Policy().reached(amr) == (PASSWORD, REFEDS_MFA, PHISHING_RESISTANT)[expected - 1]


def test_code_is_added_to_the_methods_once() -> None:
    assert with_code(BY_PASSWORD) == with_code(BY_PASSWORD_AND_CODE) == BY_PASSWORD_AND_CODE
    assert with_code(("otp",)) == ("otp", "mfa")


def test_passkey_is_added_to_the_methods_once_and_a_code_never_reaches_its_level() -> None:
    by_both = ("pwd", "pop", "user", "mfa")
    assert with_passkey(BY_PASSWORD) == with_passkey(by_both) == by_both
    assert with_passkey(BY_PASSWORD_AND_CODE) == ("pwd", "otp", "pop", "user", "mfa")
    assert level(with_code(BY_PASSWORD)) == 2


EARLY = Policy("required", required_from=NOW + 10)


@pytest.mark.parametrize(
    ("policy", "now", "requires", "asks"),
    [
        (Policy("required"), NOW, True, False),
        (EARLY, NOW + 9, False, True),
        (EARLY, NOW + 10, True, False),
        (EARLY, None, True, False),
        (Policy(required_from=NOW), NOW, False, False),
        (Policy("off", required_from=NOW), NOW, False, False),
    ],
)
def test_second_factor_is_required_from_a_day_on(policy: Policy, now: int | None, requires: bool, asks: bool) -> None:
    assert policy.requires_two(now) is requires
    assert policy.asks_to_enrol(now or NOW + 10) is asks
    assert policy.demand(REQUEST, CLIENT, now=now).required == (2 if requires else 1)


def test_declined_preference_demands_only_what_is_required() -> None:
    request = replace(REQUEST, acr_values=(PHISHING_RESISTANT, REFEDS_MFA), declined=frozenset({DECLINED_PREFERENCE}))
    assert Policy(passkeys=True).demand(request, CLIENT) == Demand()
    assert Policy("required", passkeys=True).demand(request, CLIENT) == Demand(2)
    essential = {"id_token": {"acr": {"values": (PHISHING_RESISTANT,), "essential": True}}}
    assert Policy(passkeys=True).demand(replace(request, claims=essential), CLIENT) == Demand(3)


WITH_PASSKEYS = Policy(passkeys=True)
# user, session, demand, has_passkey, step; None is an answer, an exception its error
BY_PASSKEY_ROWS: list[tuple[str, str, Demand, bool, Any]] = [
    ("one factor", "pwd", Demand(3), True, Step.SECOND_FACTOR),
    ("one factor, without", "pwd", Demand(3), False, UnmetAuthenticationRequirements),
    ("two factors", "pwd otp mfa", Demand(3), True, Step.SECOND_FACTOR),
    ("two factors, without", "pwd otp mfa", Demand(3), False, UnmetAuthenticationRequirements),
    ("a passkey", "pop user mfa", Demand(3), False, None),
    ("password and passkey", "pwd pop user mfa", Demand(3), True, None),
    ("two demanded, one", "pwd", Demand(2), True, Step.SECOND_FACTOR),
    ("two demanded, one, without", "pwd", Demand(2), False, Step.ENROL_SECOND_FACTOR),
    ("two demanded, a passkey", "pop user mfa", Demand(2), False, None),
    ("preferred", "pwd", Demand(1, (3,)), True, Step.SECOND_FACTOR),
    ("preferred, without", "pwd", Demand(1, (3,)), False, None),
    ("preferred, two", "pwd otp mfa", Demand(1, (3, 2)), False, None),
    ("no demand", "pwd", Demand(), True, None),
]


@pytest.mark.parametrize(
    ("case", "amr", "demand", "has_passkey", "expected"), BY_PASSKEY_ROWS, ids=[row[0] for row in BY_PASSKEY_ROWS]
)
def test_next_step_where_passkeys_are_possible(
    case: str, amr: str, demand: Demand, has_passkey: bool, expected: Any
) -> None:
    signed_in = SignedInUser(USER, replace(SESSION, amr=tuple(amr.split())))

    def step() -> Step | None:
        return next_step(
            REQUEST, CLIENT, signed_in, None, NOW, policy=WITH_PASSKEYS, demand=demand, has_passkey=has_passkey
        )

    if isinstance(expected, type):
        with pytest.raises(expected):
            step()
    else:
        assert step() is expected


DEPENDS: list[tuple[str, Demand, Policy, bool]] = [
    ("pwd", Demand(), WITH_PASSKEYS, False),
    ("pwd", Demand(2), WITH_PASSKEYS, True),
    ("pwd", Demand(1, (2,)), WITH_PASSKEYS, True),
    ("pwd otp mfa", Demand(2), WITH_PASSKEYS, False),
    ("pwd otp mfa", Demand(3), WITH_PASSKEYS, True),
    ("pop user mfa", Demand(3), WITH_PASSKEYS, False),
    ("pwd", Demand(2), Policy(), False),
    ("pwd", Demand(2), Policy("off", passkeys=True), False),
]


@pytest.mark.parametrize(("amr", "demand", "policy", "depends"), DEPENDS)
def test_passkeys_are_read_only_where_they_decide(amr: str, demand: Demand, policy: Policy, depends: bool) -> None:
    assert policy.depends_on_passkeys(demand, USER, tuple(amr.split())) is depends
    # A user with a code needs no passkey for two factors.
    assert policy.depends_on_passkeys(demand, WITH_FACTOR, tuple(amr.split())) is (depends and 3 in _levels(demand))


def _levels(demand: Demand) -> tuple[int, ...]:
    return (demand.required, *demand.preferred)


@pytest.mark.parametrize(
    ("policy", "levels"),
    [(Policy(), 2), (WITH_PASSKEYS, 3), (Policy("off", passkeys=True), 1), (Policy("required", passkeys=True), 3)],
)
def test_values_of_the_metadata_are_those_that_a_sign_in_can_reach(policy: Policy, levels: int) -> None:
    assert policy.acr_values == (PASSWORD, REFEDS_MFA, PHISHING_RESISTANT)[:levels]


DEMANDS: list[tuple[str, dict[str, Any], dict[str, Any], tuple[str, ...], Policy, Demand]] = [
    ("nothing", {}, {}, (), Policy(), Demand()),
    ("required of all", {}, {}, (), Policy("required"), Demand(2)),
    ("a client", {}, {"require_acr": REFEDS_MFA}, (), Policy(), Demand(2)),
    ("a client, one factor", {}, {"require_acr": PASSWORD}, (), Policy(), Demand(1)),
    ("a client, one factor, required of all", {}, {"require_acr": PASSWORD}, (), Policy("required"), Demand(2)),
    ("a client, unknown", {}, {"require_acr": "x"}, (), Policy(), Demand(UNREACHABLE)),
    ("a client, switched off", {}, {"require_acr": REFEDS_MFA}, (), Policy("off"), Demand(UNREACHABLE)),
    ("one of two scopes", {}, {}, (PASSWORD, REFEDS_MFA), Policy(), Demand(2)),
    ("acr_values", {"acr_values": (REFEDS_MFA, PASSWORD)}, {}, (), Policy(), Demand(1, (2, 1))),
    ("a default", {}, {"default_acr_values": (REFEDS_MFA,)}, (), Policy(), Demand(1, (2,))),
    (
        "acr_values instead of a default",
        {"acr_values": (PASSWORD,)},
        {"default_acr_values": (REFEDS_MFA,)},
        (),
        Policy(),
        Demand(1, (1,)),
    ),
    (
        "essential, two values",
        {"claims": {"id_token": {"acr": {"values": (REFEDS_MFA, PASSWORD), "essential": True}}}},
        {},
        (),
        Policy(),
        Demand(1, (2, 1)),
    ),
    (
        "essential",
        {"claims": {"id_token": {"acr": {"values": (REFEDS_MFA,), "essential": True}}}},
        {},
        (),
        Policy(),
        Demand(2, (2,)),
    ),
    ("voluntary", {"claims": {"id_token": {"acr": {"values": (REFEDS_MFA,)}}}}, {}, (), Policy(), Demand(1, (2,))),
]


@pytest.mark.parametrize(
    ("case", "request_", "client", "scopes", "policy", "demand"), DEMANDS, ids=[c[0] for c in DEMANDS]
)
def test_demand_of_a_request(
    case: str,
    request_: dict[str, Any],
    client: dict[str, Any],
    scopes: tuple[str, ...],
    policy: Policy,
    demand: Demand,
) -> None:
    assert policy.demand(replace(REQUEST, **request_), replace(CLIENT, **client), scopes) == demand


NEEDED = [
    (Demand(), 1, 1),
    (Demand(), 2, 1),
    (Demand(2), 1, 2),
    (Demand(1, (2,)), 1, 1),
    (Demand(1, (2,)), 2, 2),
    (Demand(1, (3, 2)), 2, 2),
    (Demand(1, (1, 2)), 2, 1),
    (Demand(2, (1,)), 2, 2),
    (Demand(1, (UNREACHABLE,)), 3, 1),
]


@pytest.mark.parametrize(("demand", "reachable", "needed"), NEEDED)
def test_level_that_a_user_needs(demand: Demand, reachable: int, needed: int) -> None:
    assert demand.level_for(reachable) == needed


OLD = replace(SESSION, auth_time=NOW - RECENT - 1)
STEPS: list[tuple[str, User, Session | None, Demand, dict[str, Any], Step | None]] = [
    ("no demand", USER, SESSION, Demand(), {}, None),
    ("no demand, with a factor", WITH_FACTOR, SESSION, Demand(), {}, None),
    ("preferred, none", USER, SESSION, Demand(1, (2,)), {}, None),
    ("preferred", WITH_FACTOR, SESSION, Demand(1, (2,)), {}, Step.SECOND_FACTOR),
    ("preferred, reached", WITH_FACTOR, TWO, Demand(1, (2,)), {}, None),
    ("required, none", USER, SESSION, Demand(2), {}, Step.ENROL_SECOND_FACTOR),
    ("required, none, an old sign-in", USER, OLD, Demand(2), {}, Step.SIGN_IN),
    ("required", WITH_FACTOR, SESSION, Demand(2), {}, Step.SECOND_FACTOR),
    ("required, an old sign-in", WITH_FACTOR, OLD, Demand(2), {}, Step.SECOND_FACTOR),
    ("required, reached", WITH_FACTOR, TWO, Demand(2), {}, None),
    ("required, a factor that was removed since", USER, TWO, Demand(2), {}, None),
    ("required, not signed in", USER, None, Demand(2), {}, Step.SIGN_IN),
    ("required, max_age", WITH_FACTOR, TWO, Demand(2), {"max_age": 60}, None),
    ("max_age of the password", WITH_FACTOR, TWO, Demand(), {"max_age": 60}, Step.SIGN_IN),
    ("required, max_age exceeded", WITH_FACTOR, TWO, Demand(2), {"max_age": 40}, Step.SIGN_IN),
    ("required, prompt=login", WITH_FACTOR, TWO, Demand(2), {"prompt": frozenset({"login"})}, Step.SIGN_IN),
]


@pytest.mark.parametrize(("case", "user", "session", "demand", "changes", "step"), STEPS, ids=[c[0] for c in STEPS])
def test_next_step_follows_from_demand_and_session(
    case: str, user: User, session: Session | None, demand: Demand, changes: dict[str, Any], step: Step | None
) -> None:
    signed_in = SignedInUser(user, session) if session else None
    request = replace(REQUEST, **changes)
    assert next_step(request, CLIENT, signed_in, None, NOW, demand=demand) is step
    # A user who is waiting must enter the code, whatever session the browser has.
    assert next_step(request, CLIENT, signed_in, None, NOW, demand=demand, waiting=True) is Step.SECOND_FACTOR


@pytest.mark.parametrize(
    ("user", "error"), [(WITH_FACTOR, LoginRequired), (USER, InteractionRequired)], ids=["code", "setup"]
)
def test_step_is_an_error_with_prompt_none(user: User, error: type[Exception]) -> None:
    request = replace(REQUEST, prompt=frozenset({"none"}))
    with pytest.raises(error):
        next_step(request, CLIENT, SignedInUser(user, SESSION), None, NOW, demand=Demand(2))


@pytest.mark.parametrize("signed_in", [None, SignedInUser(WITH_FACTOR, TWO)], ids=["signed out", "signed in"])
def test_demand_that_no_sign_in_reaches_is_an_error_at_once(signed_in: SignedInUser | None) -> None:
    with pytest.raises(UnmetAuthenticationRequirements):
        next_step(REQUEST, CLIENT, signed_in, None, NOW, demand=Demand(UNREACHABLE))


def test_required_password_change_follows_the_code_and_precedes_the_setup() -> None:
    def step(user: User) -> Step | None:
        changing = replace(user, password_change_required=True)
        return next_step(REQUEST, CLIENT, SignedInUser(changing, SESSION), None, NOW, demand=Demand(2))

    assert step(WITH_FACTOR) is Step.SECOND_FACTOR
    assert step(USER) is Step.CHANGE_PASSWORD


def test_switched_off_server_asks_no_user_for_a_code() -> None:
    off = Policy("off")
    assert not off.asks_for_code(WITH_FACTOR)
    assert off.acr_values == (PASSWORD,)
    assert next_step(REQUEST, CLIENT, SignedInUser(WITH_FACTOR, SESSION), None, NOW, policy=off) is None
