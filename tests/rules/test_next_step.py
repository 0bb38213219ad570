"""The next step of an authorization request, as a table of requests, clients, sessions and consents."""

from dataclasses import replace
from typing import Any

import pytest

from chalicelib.protocol.client import Client
from chalicelib.protocol.errors import ConsentRequired, InteractionRequired, LoginRequired
from chalicelib.protocol.next_step import RECENT, SignedInUser, Step, next_step
from chalicelib.protocol.records import AuthorizationRequest, Consent, Session, User

NOW = 1_000_000

REQUEST = AuthorizationRequest("r", "c", "https://a.example/cb", NOW + 600, NOW, frozenset({"openid"}))
CLIENT = Client("c", "C", ("https://a.example/cb",))
PUBLIC = replace(CLIENT, token_endpoint_auth_method="none")
USER = User("u", "alice", "", {})
SESSION = Session("u.s", "u", NOW - 100, NOW + 600, request_id="another")
NEW_SESSION = replace(SESSION, request_id="r")  # from a sign-in for this request
CONSENT = Consent("u", "c", frozenset({"openid"}))


def request(**changes: Any) -> AuthorizationRequest:
    prompt = frozenset(changes.pop("prompt", "").split())
    return replace(REQUEST, prompt=prompt, scope=frozenset(changes.pop("scope", "openid").split()), **changes)


STEPS: list[tuple[str, AuthorizationRequest, Client, Session | None, Consent | None, Step | None]] = [
    ("not signed in", request(), CLIENT, None, None, Step.SIGN_IN),
    ("not signed in, trusted", request(), replace(CLIENT, trusted=True), None, None, Step.SIGN_IN),
    ("signed in, no consent", request(), CLIENT, SESSION, None, Step.CONSENT),
    ("remembered", request(), CLIENT, SESSION, CONSENT, None),
    ("remembered, more scope", request(scope="openid email"), CLIENT, SESSION, CONSENT, Step.CONSENT),
    ("remembered, other scope", request(scope="email"), CLIENT, SESSION, CONSENT, Step.CONSENT),
    (
        "remembered without offline_access",
        request(scope="openid offline_access"),
        CLIENT,
        SESSION,
        CONSENT,
        Step.CONSENT,
    ),
    ("trusted", request(), replace(CLIENT, trusted=True), SESSION, None, None),
    ("remembered, details", request(authorization_details=("{}",)), CLIENT, SESSION, CONSENT, Step.CONSENT),
    (
        "trusted, details",
        request(authorization_details=("{}",)),
        replace(CLIENT, trusted=True),
        SESSION,
        None,
        None,
    ),
    ("remembered, prompt=login", request(prompt="login"), CLIENT, SESSION, CONSENT, Step.SIGN_IN),
    ("remembered, prompt=login, signed in for it", request(prompt="login"), CLIENT, NEW_SESSION, CONSENT, None),
    ("remembered, prompt=select_account", request(prompt="select_account"), CLIENT, SESSION, CONSENT, Step.SIGN_IN),
    ("remembered, prompt=consent", request(prompt="consent"), CLIENT, SESSION, CONSENT, Step.CONSENT),
    ("prompt=login consent", request(prompt="login consent"), CLIENT, SESSION, CONSENT, Step.SIGN_IN),
    (
        "prompt=login consent, signed in for it",
        request(prompt="login consent"),
        CLIENT,
        NEW_SESSION,
        CONSENT,
        Step.CONSENT,
    ),
    ("trusted, prompt=consent", request(prompt="consent"), replace(CLIENT, trusted=True), SESSION, None, Step.CONSENT),
    ("max_age reached", request(max_age=100), CLIENT, SESSION, CONSENT, None),
    ("max_age exceeded", request(max_age=99), CLIENT, SESSION, CONSENT, Step.SIGN_IN),
    ("max_age exceeded, signed in for it", request(max_age=99), CLIENT, NEW_SESSION, CONSENT, None),
    ("max_age 0", request(max_age=0), CLIENT, replace(SESSION, auth_time=NOW), CONSENT, Step.SIGN_IN),
    ("max_age 0, signed in for it", request(max_age=0), CLIENT, NEW_SESSION, CONSENT, None),
    (
        "max_age 0 and offline",
        request(max_age=0, scope="openid offline_access"),
        CLIENT,
        NEW_SESSION,
        CONSENT,
        Step.CONSENT,
    ),
    ("select_account, signed in for it", request(prompt="select_account"), CLIENT, NEW_SESSION, CONSENT, None),
    ("three prompts", request(prompt="login consent select_account"), CLIENT, SESSION, CONSENT, Step.SIGN_IN),
    (
        "three prompts, signed in for it",
        request(prompt="login consent select_account"),
        CLIENT,
        NEW_SESSION,
        CONSENT,
        Step.CONSENT,
    ),
    ("hint of the same user", request(hinted_sub="u"), CLIENT, SESSION, CONSENT, None),
    ("hint of the same user, no consent", request(hinted_sub="u"), CLIENT, SESSION, None, Step.CONSENT),
    ("hint of another user", request(hinted_sub="v"), CLIENT, SESSION, CONSENT, Step.SIGN_IN),
    (
        "hint of another user, trusted",
        request(hinted_sub="v"),
        replace(CLIENT, trusted=True),
        SESSION,
        None,
        Step.SIGN_IN,
    ),
    ("hint, not signed in", request(hinted_sub="u"), CLIENT, None, None, Step.SIGN_IN),
    (
        "hint of the same user, prompt=login",
        request(hinted_sub="u", prompt="login"),
        CLIENT,
        SESSION,
        CONSENT,
        Step.SIGN_IN,
    ),
    *(
        (
            f"requested sub: {member} {values}",
            request(claims={member: {"sub": {"values": values}}}),
            CLIENT,
            SESSION,
            CONSENT,
            step,
        )
        for member in ("id_token", "userinfo")
        for values, step in ((("u",), None), (("v", "u"), None), (("v",), Step.SIGN_IN), (("U",), Step.SIGN_IN))
    ),
    (
        "hint and sub differ",
        request(hinted_sub="u", claims={"id_token": {"sub": {"values": ("v",)}}}),
        CLIENT,
        SESSION,
        CONSENT,
        Step.SIGN_IN,
    ),
    (
        "a claim of a remembered scope",
        request(claims={"userinfo": {"email": {}}}),
        CLIENT,
        SESSION,
        replace(CONSENT, scope=frozenset({"openid", "email"})),
        None,
    ),
    (
        "a claim of a scope that is not remembered",
        request(claims={"userinfo": {"email": {}}}),
        CLIENT,
        SESSION,
        CONSENT,
        Step.CONSENT,
    ),
    (
        "a claim, trusted",
        request(claims={"userinfo": {"email": {}}}),
        replace(CLIENT, trusted=True),
        SESSION,
        None,
        None,
    ),
    (
        "a remembered claim",
        request(claims={"id_token": {"email": {}}}),
        CLIENT,
        SESSION,
        replace(CONSENT, claims=frozenset({"email"})),
        None,
    ),
    (
        "a claim in addition to a remembered one",
        request(claims={"id_token": {"email": {}, "name": {}}}),
        CLIENT,
        SESSION,
        replace(CONSENT, claims=frozenset({"email"})),
        Step.CONSENT,
    ),
    ("public, redirect URI at a host", request(), PUBLIC, SESSION, CONSENT, None),
    *(
        (f"{kind} at {uri}", request(redirect_uri=uri), client, SESSION, CONSENT, step)
        for uri in ("http://127.0.0.1:5000/cb", "http://[::1]:1/cb", "http://localhost:3000/cb", "com.example.app:/cb")
        for kind, client, step in (
            ("public", PUBLIC, Step.CONSENT),
            ("public and trusted", replace(PUBLIC, trusted=True), Step.CONSENT),
            ("confidential", CLIENT, None),
        )
    ),
]
ERRORS = {Step.SIGN_IN: LoginRequired, Step.CHANGE_PASSWORD: InteractionRequired, Step.CONSENT: ConsentRequired}


@pytest.mark.spec("OpenID Connect Core §3.1.2.3 a", "OpenID Connect Core §3.1.2.3 b", "OpenID Connect Core §3.1.2.3 c")
@pytest.mark.spec("OpenID Connect Core §3.1.2.3 d")
@pytest.mark.spec("OpenID Connect Core §3.1.2.3")
@pytest.mark.parametrize(("case", "request_", "client", "session", "consent", "step"), STEPS, ids=[s[0] for s in STEPS])
def test_next_step_follows_from_request_client_session_and_consent(
    case: str,
    request_: AuthorizationRequest,
    client: Client,
    session: Session | None,
    consent: Consent | None,
    step: Step | None,
) -> None:
    signed_in = SignedInUser(USER, session) if session else None
    assert next_step(request_, client, signed_in, consent, NOW) is step
    must_change = SignedInUser(replace(USER, password_change_required=True), session) if session else None
    expected = Step.SIGN_IN if step is Step.SIGN_IN else Step.CHANGE_PASSWORD
    assert next_step(request_, client, must_change, consent, NOW) is expected
    if request_.prompt:
        return
    silent = replace(request_, prompt=frozenset({"none"}))
    if step is None:
        assert next_step(silent, client, signed_in, consent, NOW) is None
    else:
        with pytest.raises(ERRORS[step]):
            next_step(silent, client, signed_in, consent, NOW)


@pytest.mark.parametrize("request_id", ["r", "another"])
def test_new_password_is_chosen_only_after_a_recent_sign_in(request_id: str) -> None:
    user = replace(USER, password_change_required=True)

    def step(age: int, **changes: Any) -> Step | None:
        session = replace(SESSION, auth_time=NOW - age, request_id=request_id)
        return next_step(request(**changes), CLIENT, SignedInUser(user, session), CONSENT, NOW)

    assert [step(age) for age in (0, RECENT, RECENT + 1)] == [
        Step.CHANGE_PASSWORD,
        Step.CHANGE_PASSWORD,
        Step.SIGN_IN,
    ]
    with pytest.raises(InteractionRequired):
        step(RECENT, prompt="none")
    with pytest.raises(LoginRequired):
        step(RECENT + 1, prompt="none")


@pytest.mark.spec("OpenID Connect Core §3.1.2.2")
@pytest.mark.parametrize("prompt", ["", "login", "consent", "none"])
@pytest.mark.parametrize(
    "intended_user",
    [{"hinted_sub": "v"}, {"claims": {"id_token": {"sub": {"values": ("v", "w")}}}}],
    ids=["hint", "claims"],
)
def test_sign_in_of_another_user_than_the_intended_one_is_an_error(intended_user: dict[str, Any], prompt: str) -> None:
    request_ = request(prompt=prompt, **intended_user)
    for client in (CLIENT, replace(CLIENT, trusted=True)):
        for user in (USER, replace(USER, password_change_required=True)):
            with pytest.raises(LoginRequired):
                next_step(request_, client, SignedInUser(user, NEW_SESSION), CONSENT, NOW)


@pytest.mark.spec("OpenID Connect Core §8.1")
def test_hint_is_compared_with_the_subject_for_the_client() -> None:
    signed_in = SignedInUser(USER, SESSION)
    assert next_step(request(hinted_sub="pairwise"), CLIENT, signed_in, CONSENT, NOW, "pairwise") is None
    assert next_step(request(hinted_sub="u"), CLIENT, signed_in, CONSENT, NOW, "pairwise") is Step.SIGN_IN
    values = {"id_token": {"sub": {"values": ("pairwise",)}}}
    assert next_step(request(claims=values), CLIENT, signed_in, CONSENT, NOW, "pairwise") is None
