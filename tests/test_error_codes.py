"""Errors people meet: each has a code, an explanation, a place to read it, and the same code in the log."""

import ast
import html
import json
import re
from collections.abc import Callable
from dataclasses import astuple
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from chalicelib import errors
from chalicelib.error_codes import EXPLANATIONS
from chalicelib.errors import OAuthError
from tests import error_document
from tests.browser import Answer, Browser, basic
from tests.gateways import FRONTS, FrontBrowser
from tests.site import PASSWORD, Registered, Site

CHALICELIB = Path(errors.__file__).parent


def classes(parent: type[OAuthError] = OAuthError) -> set[type[OAuthError]]:
    found = {parent}.union(*(classes(child) for child in parent.__subclasses__()))
    return {kind for kind in found if kind.__module__.startswith("chalicelib.")}


def codes_in_the_code() -> set[str]:
    """Each `code="…"` that an error is raised with, and what a sign-in fails for."""
    found: set[str] = set()
    for path in CHALICELIB.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name | ast.Attribute):
                continue
            name = node.func.id if isinstance(node.func, ast.Name) else node.func.attr
            if name == "NotSignedIn" and isinstance(node.args[0], ast.Constant):
                found.add(str(node.args[0].value))
            if isinstance(kind := getattr(errors, name, None), type) and issubclass(kind, OAuthError):
                for keyword in node.keywords:
                    if keyword.arg == "code":
                        values = [part for part in ast.walk(keyword.value) if isinstance(part, ast.Constant)]
                        found |= {part.value for part in values if isinstance(part.value, str)}
    return found


def test_every_error_is_explained_and_every_explanation_is_of_an_error() -> None:
    raised = {kind("x").code for kind in classes()} | codes_in_the_code()
    assert {"unknown_client", "request_answered", "server_error"} <= raised
    assert raised == set(EXPLANATIONS)


@pytest.mark.parametrize("code", EXPLANATIONS)
def test_an_explanation_is_short_and_whole(code: str) -> None:
    error = EXPLANATIONS[code]
    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", code)
    assert not error.title.endswith(".")
    for text in filter(None, astuple(error)[1:]):
        assert text.endswith(".")
        assert len(text) <= 250
        assert "  " not in text


def test_the_document_is_made_of_the_same_table() -> None:
    again = "docs/errors.md is out of date: run python -m tests.error_document"
    assert error_document.FILE.read_text("utf-8") == error_document.text(), again


def test_the_page_of_errors_has_a_place_for_each(browser: Browser) -> None:
    page = browser.get("/errors")
    assert page.status == 200
    assert set(re.findall(r'<h2 id="([a-z_]+)"', page.body)) == set(EXPLANATIONS)
    assert "`" not in page.body, "what stands in backticks is shown as code"
    text = html.unescape(re.sub("</?code>", "`", page.body))
    assert all(part in text for error in EXPLANATIONS.values() for part in astuple(error))


# ---- what people meet

Meet = Callable[[Site, Browser, Registered], Answer]  # how somebody comes to see a page


def _consent(site: Site, browser: Browser, client: Registered) -> Answer:
    return browser.sign_in(browser.authorize(client))


def _answered(site: Site, browser: Browser, client: Registered) -> Answer:
    page = _consent(site, browser, client)
    browser.submit(page, decision="deny")
    return browser.submit(page, decision="allow_once")


def _expired(site: Site, browser: Browser, client: Registered) -> Answer:
    page = browser.authorize(client)
    site.clock.advance(site.settings.request_lifetime)
    return browser.sign_in(page)


def _in_another_browser(site: Site, browser: Browser, client: Registered) -> Answer:
    handle = browser.authorize(client).form.fields["request_uri"]
    browser.cookies.clear()
    return browser.get("/oauth2/authorize", request_uri=handle)


def _sent(site: Site, browser: Browser, client: Registered, headers: Any = None, **values: str) -> Answer:
    return browser.send(_consent(site, browser, client), headers, **values)


def _fault(site: Site, browser: Browser, client: Registered) -> Answer:
    def boom(*_: Any) -> None:
        raise RuntimeError(PASSWORD)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(site.server.store.clients, "get", boom)
        site.server._clients.clear()
        return browser.authorize(client)


MET: dict[str, tuple[int, Meet]] = {
    "unknown_client": (400, lambda _site, browser, client: browser.authorize(client, client_id="nobody")),
    "redirect_uri_mismatch": (
        400,
        lambda _s, browser, client: browser.authorize(client, redirect_uri="https://x.org/"),
    ),
    "redirect_uri_missing": (400, lambda _site, browser, client: browser.authorize(client, redirect_uri=None)),
    "request_expired": (400, _expired),
    "request_answered": (400, _answered),
    "wrong_browser": (400, _in_another_browser),
    "wrong_site": (400, partial(_sent, headers={"Sec-Fetch-Site": "cross-site"})),
    "form_not_ours": (400, partial(_sent, tag="x", decision="allow_once")),
    "navigation_only": (
        400,
        lambda _s, browser, client: browser.authorize(client, "/oauth2/code", headers={"Sec-Fetch-Mode": "cors"}),
    ),
    "not_found": (404, lambda site, _browser, _client: FrontBrowser(site, FRONTS[0]).get("/nothing")),
    "method_not_allowed": (405, lambda _site, browser, _client: browser.request("DELETE", "/oauth2/code")),
    "invalid_request": (400, lambda _site, browser, _client: browser.get("/oauth2/authorize", client_id="x" * 129)),
    "server_error": (500, _fault),
}


@pytest.mark.parametrize("code", MET)
def test_an_error_page_explains_itself_in_plain_words_and_is_found_in_the_log(
    site: Site, browser: Browser, caplog: pytest.LogCaptureFixture, code: str
) -> None:
    site.user()
    status, meet = MET[code]
    client = site.client(direct_sign_in=True)
    page = meet(site, browser, client)
    line = json.loads(caplog.records[-1].getMessage())
    text = html.unescape(page.body)
    assert (page.status, page.header("content-type")) == (status, "text/html; charset=utf-8")
    error = EXPLANATIONS[code]
    assert f"<h1>{error.title}</h1>" in text
    assert error.meaning in text
    assert error.person in text
    assert f'<a href="/errors#{code}">' in text
    assert f"<code>{code}</code>" in text
    assert line["code"] == code
    assert f"<code>{line['request_id']}</code>" in text


def test_an_answer_to_a_client_has_its_code_in_the_log(
    site: Site, browser: Browser, caplog: pytest.LogCaptureFixture
) -> None:
    client = site.client()
    answer = browser.post("/oauth2/token", {"grant_type": "x"}, basic(client.id, client.secret or ""))
    assert answer.json["error"] == "unsupported_grant_type"
    assert json.loads(caplog.records[-1].getMessage())["code"] == "unsupported_grant_type"
