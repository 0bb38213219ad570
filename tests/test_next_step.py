"""The rule that decides what the person still has to do, as a table."""

from dataclasses import replace
from typing import Any

import pytest

from chalicelib.errors import ConsentRequired, InteractionRequired, LoginRequired
from chalicelib.interaction import Person, Step, next_step
from chalicelib.models import AuthorizationRequest, Client, Consent, Session, User

NOW = 1_000_000

REQUEST = AuthorizationRequest("r", "c", "https://a.example/cb", NOW + 600, NOW, frozenset({"openid"}))
CLIENT = Client("c", "C", ("https://a.example/cb",))
PUBLIC = replace(CLIENT, token_endpoint_auth_method="none")
USER = User("u", "alice", "", {})
SESSION = Session("u.s", "u", NOW - 100, NOW + 600, request_id="another")
FOR_THIS = replace(SESSION, request_id="r")
AGREED = Consent("u", "c", frozenset({"openid"}))


def asks(**changes: Any) -> AuthorizationRequest:
    prompt = frozenset(changes.pop("prompt", "").split())
    return replace(REQUEST, prompt=prompt, scope=frozenset(changes.pop("scope", "openid").split()), **changes)


STEPS: list[tuple[str, AuthorizationRequest, Client, Session | None, Consent | None, Step | None]] = [
    ("nobody signed in", asks(), CLIENT, None, None, Step.SIGN_IN),
    ("nobody signed in, trusted", asks(), replace(CLIENT, trusted=True), None, None, Step.SIGN_IN),
    ("signed in, not yet asked", asks(), CLIENT, SESSION, None, Step.CONSENT),
    ("remembered", asks(), CLIENT, SESSION, AGREED, None),
    ("remembered, more scope", asks(scope="openid email"), CLIENT, SESSION, AGREED, Step.CONSENT),
    ("remembered, other scope", asks(scope="email"), CLIENT, SESSION, AGREED, Step.CONSENT),
    ("remembered without offline_access", asks(scope="openid offline_access"), CLIENT, SESSION, AGREED, Step.CONSENT),
    ("trusted", asks(), replace(CLIENT, trusted=True), SESSION, None, None),
    ("remembered, prompt=login", asks(prompt="login"), CLIENT, SESSION, AGREED, Step.SIGN_IN),
    ("the same, signed in for it", asks(prompt="login"), CLIENT, FOR_THIS, AGREED, None),
    ("remembered, prompt=select_account", asks(prompt="select_account"), CLIENT, SESSION, AGREED, Step.SIGN_IN),
    ("remembered, prompt=consent", asks(prompt="consent"), CLIENT, SESSION, AGREED, Step.CONSENT),
    ("both prompts", asks(prompt="login consent"), CLIENT, SESSION, AGREED, Step.SIGN_IN),
    ("both prompts, signed in for it", asks(prompt="login consent"), CLIENT, FOR_THIS, AGREED, Step.CONSENT),
    ("trusted, prompt=consent", asks(prompt="consent"), replace(CLIENT, trusted=True), SESSION, None, Step.CONSENT),
    ("max_age reached", asks(max_age=100), CLIENT, SESSION, AGREED, None),
    ("max_age exceeded", asks(max_age=99), CLIENT, SESSION, AGREED, Step.SIGN_IN),
    ("max_age exceeded, signed in for it", asks(max_age=99), CLIENT, FOR_THIS, AGREED, None),
    ("max_age 0", asks(max_age=0), CLIENT, replace(SESSION, auth_time=NOW), AGREED, Step.SIGN_IN),
    ("max_age 0, signed in for it", asks(max_age=0), CLIENT, FOR_THIS, AGREED, None),
    ("max_age 0 and offline", asks(max_age=0, scope="openid offline_access"), CLIENT, FOR_THIS, AGREED, Step.CONSENT),
    ("select_account, signed in for it", asks(prompt="select_account"), CLIENT, FOR_THIS, AGREED, None),
    ("three prompts", asks(prompt="login consent select_account"), CLIENT, SESSION, AGREED, Step.SIGN_IN),
    (
        "three prompts, signed in for it",
        asks(prompt="login consent select_account"),
        CLIENT,
        FOR_THIS,
        AGREED,
        Step.CONSENT,
    ),
    ("hint of the same person", asks(hinted_sub="u"), CLIENT, SESSION, AGREED, None),
    ("hint of the same person, not yet asked", asks(hinted_sub="u"), CLIENT, SESSION, None, Step.CONSENT),
    ("hint of another person", asks(hinted_sub="v"), CLIENT, SESSION, AGREED, Step.SIGN_IN),
    (
        "hint of another person, trusted",
        asks(hinted_sub="v"),
        replace(CLIENT, trusted=True),
        SESSION,
        None,
        Step.SIGN_IN,
    ),
    ("hint and nobody signed in", asks(hinted_sub="u"), CLIENT, None, None, Step.SIGN_IN),
    (
        "hint of the same person, prompt=login",
        asks(hinted_sub="u", prompt="login"),
        CLIENT,
        SESSION,
        AGREED,
        Step.SIGN_IN,
    ),
    *(
        (
            f"sub by name: {member} {values}",
            asks(claims={member: {"sub": {"values": values}}}),
            CLIENT,
            SESSION,
            AGREED,
            step,
        )
        for member in ("id_token", "userinfo")
        for values, step in ((("u",), None), (("v", "u"), None), (("v",), Step.SIGN_IN), (("U",), Step.SIGN_IN))
    ),
    (
        "hint and sub differ",
        asks(hinted_sub="u", claims={"id_token": {"sub": {"values": ("v",)}}}),
        CLIENT,
        SESSION,
        AGREED,
        Step.SIGN_IN,
    ),
    (
        "a claim of a scope that is remembered",
        asks(claims={"userinfo": {"email": {}}}),
        CLIENT,
        SESSION,
        replace(AGREED, scope=frozenset({"openid", "email"})),
        None,
    ),
    ("a claim of a scope that is not", asks(claims={"userinfo": {"email": {}}}), CLIENT, SESSION, AGREED, Step.CONSENT),
    ("a claim, trusted", asks(claims={"userinfo": {"email": {}}}), replace(CLIENT, trusted=True), SESSION, None, None),
    (
        "a claim that is remembered",
        asks(claims={"id_token": {"email": {}}}),
        CLIENT,
        SESSION,
        replace(AGREED, claims=frozenset({"email"})),
        None,
    ),
    (
        "a claim besides one that is remembered",
        asks(claims={"id_token": {"email": {}, "name": {}}}),
        CLIENT,
        SESSION,
        replace(AGREED, claims=frozenset({"email"})),
        Step.CONSENT,
    ),
    ("public, at a host", asks(), PUBLIC, SESSION, AGREED, None),
    *(
        (f"{kind} at {uri}", asks(redirect_uri=uri), client, SESSION, AGREED, step)
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
def test_the_next_step_follows_from_request_client_session_and_consent(
    case: str,
    request_: AuthorizationRequest,
    client: Client,
    session: Session | None,
    consent: Consent | None,
    step: Step | None,
) -> None:
    person = Person(USER, session) if session else None
    assert next_step(request_, client, person, consent, NOW) is step
    must_change = Person(replace(USER, password_change_required=True), session) if session else None
    expected = Step.SIGN_IN if step is Step.SIGN_IN else Step.CHANGE_PASSWORD
    assert next_step(request_, client, must_change, consent, NOW) is expected
    if request_.prompt:
        return
    silent = replace(request_, prompt=frozenset({"none"}))
    if step is None:
        assert next_step(silent, client, person, consent, NOW) is None
    else:
        with pytest.raises(ERRORS[step]):
            next_step(silent, client, person, consent, NOW)


@pytest.mark.spec("OpenID Connect Core §3.1.2.2")
@pytest.mark.parametrize("prompt", ["", "login", "consent", "none"])
@pytest.mark.parametrize(
    "wanted", [{"hinted_sub": "v"}, {"claims": {"id_token": {"sub": {"values": ("v", "w")}}}}], ids=["hint", "claims"]
)
def test_whoever_signs_in_for_a_request_that_names_another_is_refused(wanted: dict[str, Any], prompt: str) -> None:
    request_ = asks(prompt=prompt, **wanted)
    for client in (CLIENT, replace(CLIENT, trusted=True)):
        for user in (USER, replace(USER, password_change_required=True)):
            with pytest.raises(LoginRequired):
                next_step(request_, client, Person(user, FOR_THIS), AGREED, NOW)


@pytest.mark.spec("OpenID Connect Core §8.1")
def test_a_hint_names_a_person_as_the_client_knows_them() -> None:
    person = Person(USER, SESSION)
    assert next_step(asks(hinted_sub="pairwise"), CLIENT, person, AGREED, NOW, "pairwise") is None
    assert next_step(asks(hinted_sub="u"), CLIENT, person, AGREED, NOW, "pairwise") is Step.SIGN_IN
    values = {"id_token": {"sub": {"values": ("pairwise",)}}}
    assert next_step(asks(claims=values), CLIENT, person, AGREED, NOW, "pairwise") is None
