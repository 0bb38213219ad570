"""docs/groups.md: with its settings, each application finds the groups of a user where it looks for them.

The test registers the clients by the commands of the document, and reads the settings from its examples.
"""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import jmespath
import jwt
import pytest
from jmespath.exceptions import JMESPathTypeError

from tests.support.browser import Browser
from tests.support.grants import update_client
from tests.support.operator import RunCommand
from tests.support.site import Registered, Site

DOCUMENT = (Path(__file__).parents[2] / "docs" / "groups.md").read_text("utf-8")
GROUPS = frozenset({"engineering", "on-call"})


def section(name: str) -> str:
    """Return the section of an application."""
    return DOCUMENT.partition(f"\n### {name}\n")[2].partition("\n### ")[0].partition("\n## ")[0]


def blocks(name: str) -> list[str]:
    """Return the examples in a section: the command that registers the client, then the settings."""
    return re.findall(r"```\w+\n(.*?)```", section(name), re.DOTALL)


@pytest.fixture
def register(site: Site, run_command: RunCommand) -> Any:
    """Return a function that registers the client of an application as the document does."""
    site.user("erin", groups=GROUPS, claims={"email": "erin@example.com", "email_verified": True})
    site.user("bob", claims={"email": "bob@example.com", "email_verified": True})

    def register(name: str) -> Registered:
        _, *arguments = shlex.split(blocks(name)[0].replace("\\\n", " "))
        created = run_command(*arguments, "--json")
        assert (created.code, created.err) == (0, "")
        secret = json.loads(created.out).get("client_secret")
        site.secrets.update({secret} - {None})
        record = site.server.store.clients.get(arguments[arguments.index("--id") + 1])
        assert record
        return Registered(record, secret)

    return register


def sign_in(browser: Browser, client: Registered, scope: str, username: str = "erin", **more: Any) -> dict[str, Any]:
    """Go through the flow as an application that asks for this scope; return the claims by the place."""
    browser.cookies.clear()
    page = browser.sign_in(browser.authorize(client, scope=scope, **more), username)
    assert "See the groups that you belong to" in page.body
    redirect_uri = more.get("redirect_uri", client.record.redirect_uris[0])
    tokens = browser.redeem(client, browser.submit(page, decision="allow").code, redirect_uri=redirect_uri).json
    assert tokens["scope"].split() == sorted(scope.split())
    return {
        "id_token": jwt.decode(tokens["id_token"], options={"verify_signature": False}),
        "userinfo": browser.userinfo(tokens["access_token"]).json,
        "access_token": jwt.decode(tokens["access_token"], options={"verify_signature": False}),
    }


def is_array_of_strings(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def setting(text: str, name: str) -> str:
    """Return the value of a setting in an example."""
    match = re.search(rf"^\s*{name}\s*[:=]\s*(.*?),?$", text, re.MULTILINE)
    assert match, name
    return match[1]


def grafana_role(expression: str, claims: dict[str, Any]) -> str | None:
    """Evaluate a JMESPath expression as Grafana: the ID token, then UserInfo, then the access token."""
    for place in ("id_token", "userinfo", "access_token"):
        try:
            role = jmespath.search(expression, claims[place])
        except JMESPathTypeError:  # `groups` is not there
            continue
        if role:
            return str(role)
    return None


def test_grafana_finds_the_role_and_the_teams(site: Site, browser: Browser, register: Any) -> None:
    settings, client = blocks("Grafana")[1], register("Grafana")
    scope, expression = setting(settings, "scopes"), setting(settings, "role_attribute_path")
    assert grafana_role(expression, sign_in(browser, client, scope)) == "Editor"
    claims = sign_in(browser, client, scope, "bob")
    assert grafana_role(expression, claims) == "Viewer", "a user without groups"
    user = site.read_user("erin")
    site.server.store.users.put(type(user)(**(vars(user) | {"groups": GROUPS | {"grafana-admins"}})))
    claims = sign_in(browser, client, scope)
    assert grafana_role(expression, claims) == "Admin"
    teams = jmespath.search(setting(settings, "groups_attribute_path"), claims["userinfo"])
    assert teams == ["engineering", "grafana-admins", "on-call"]
    login = jmespath.search(setting(settings, "login_attribute_path"), claims["userinfo"])
    assert login == "erin"


def test_gitlab_finds_the_required_group(browser: Browser, register: Any) -> None:
    settings, client = blocks("GitLab")[1], register("GitLab")
    scope = " ".join(json.loads(setting(settings, "scope")))
    required = set(json.loads(setting(settings, "required_groups")))
    attribute = json.loads(setting(settings, "groups_attribute"))
    for username, allowed in (("erin", True), ("bob", False)):
        claims = sign_in(browser, client, scope, username)
        groups = (claims["userinfo"] | claims["id_token"])[attribute]
        assert is_array_of_strings(groups)
        assert bool(required & set(groups)) is allowed


@pytest.mark.parametrize("by_claim", [False, True], ids=["option of the client", "requestedIDTokenClaims"])
def test_argo_cd_finds_the_groups_in_the_id_token(site: Site, browser: Browser, register: Any, by_claim: bool) -> None:
    settings, client = blocks("Argo CD")[1], register("Argo CD")
    scope = " ".join(json.loads(setting(settings, "requestedScopes")))
    more = {}
    if by_claim:
        update_client(site, client, id_token_claims_from_scope=False)
        requested = re.search(r"`requestedIDTokenClaims: ({.*?})`", section("Argo CD"), re.DOTALL)
        assert requested
        more = {"claims": json.dumps({"id_token": json.loads(requested[1])})}
    token = sign_in(browser, client, scope, **more)["id_token"]
    (claim,) = re.findall(r"\w+", json.loads(setting(settings, "scopes")))
    group = re.search(r"^\s*g, (\S+), role:admin$", settings, re.MULTILINE)
    assert group
    assert is_array_of_strings(token[claim])
    assert group[1] in token[claim]
    assert token["aud"] == json.loads(f'"{setting(settings, "clientID")}"')


def test_oauth2_proxy_finds_the_allowed_group(browser: Browser, register: Any) -> None:
    settings, client = blocks("oauth2-proxy")[1], register("oauth2-proxy")
    claim = json.loads(setting(settings, "oidc_groups_claim"))
    allowed = set(json.loads(setting(settings, "allowed_groups")))
    for username, has_access in (("erin", True), ("bob", False)):
        claims = sign_in(browser, client, json.loads(setting(settings, "scope")), username)
        # It looks at UserInfo for a claim that is not in the ID token.
        groups = claims["id_token"].get(claim, claims["userinfo"].get(claim))
        assert is_array_of_strings(groups)
        assert bool(allowed & set(groups)) is has_access
        assert claims["userinfo"]["email_verified"] is True
        assert ",".join(groups).split(",") == (groups or [""]), "as in X-Forwarded-Groups"


def test_kubernetes_finds_the_groups_in_the_id_token(browser: Browser, register: Any) -> None:
    settings, client = blocks("Kubernetes")[1], register("Kubernetes")
    scopes = re.findall(r"--oidc-extra-scope=(\w+)", section("Kubernetes"))
    token = sign_in(browser, client, " ".join(["openid", *scopes]), redirect_uri="http://localhost:8000")["id_token"]
    claim, prefix = re.findall(r'groups: {claim: (\w+), prefix: "(.*?)"}', settings)[0]
    assert is_array_of_strings(token[claim])
    subject = re.findall(r'kind: Group, name: "(.*?)"', settings)[0]
    assert subject in [prefix + group for group in token[claim]]
    assert not any((prefix + group).startswith("system:") for group in token[claim])
    assert token["aud"] == re.findall(r"audiences: \[(\w+)\]", settings)[0]


def test_every_application_of_the_document_has_a_test() -> None:
    settings = DOCUMENT.partition("\n## Settings of applications\n")[2].partition("\n## ")[0]
    assert re.findall(r"^### (.*)$", settings, re.MULTILINE) == [
        "Grafana",
        "GitLab",
        "Argo CD",
        "oauth2-proxy",
        "Kubernetes",
    ]
