"""Error codes: each has an explanation on a page, and is in the log."""

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

from chalicelib.pages.explanations import EXPLANATIONS, PARTS, explanation_path, part_of, path_of_part
from chalicelib.protocol import errors
from chalicelib.protocol.errors import OAuthError
from tests.endpoints.authorize.conftest import authorize_stored
from tests.support.browser import Answer, Browser, basic
from tests.support.gateways import GATEWAYS, GatewayBrowser
from tests.support.site import PASSWORD, Registered, Site
from tests.tools import error_document

CHALICELIB = Path(errors.__file__).parents[1]


def error_classes(parent: type[OAuthError] = OAuthError) -> set[type[OAuthError]]:
    classes = {parent}.union(*(error_classes(child) for child in parent.__subclasses__()))
    return {each for each in classes if each.__module__.startswith("chalicelib.")}


def codes_in_the_source() -> set[str]:
    """Return each `code="…"` that an error is raised with, and each reason of a failed sign-in."""
    codes: set[str] = set()
    for path in CHALICELIB.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name | ast.Attribute):
                continue
            name = node.func.id if isinstance(node.func, ast.Name) else node.func.attr
            if name in ("NotSignedIn", "PasskeyError") and isinstance(node.args[0], ast.Constant):
                codes.add(str(node.args[0].value))
            if isinstance(kind := getattr(errors, name, None), type) and issubclass(kind, OAuthError):
                for keyword in node.keywords:
                    if keyword.arg == "code":
                        values = [part for part in ast.walk(keyword.value) if isinstance(part, ast.Constant)]
                        codes |= {part.value for part in values if isinstance(part.value, str)}
    return codes


def test_explanations_cover_exactly_the_errors_in_the_source() -> None:
    raised = {error_class("x").code for error_class in error_classes()} | codes_in_the_source()
    assert {"unknown_client", "request_answered", "server_error"} <= raised
    assert raised == set(EXPLANATIONS)


@pytest.mark.parametrize("code", EXPLANATIONS)
def test_explanations_are_short_and_complete_sentences(code: str) -> None:
    error = EXPLANATIONS[code]
    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", code)
    assert not error.title.endswith(".")
    for text in filter(None, astuple(error)[1:]):
        assert text.endswith(".")
        assert len(text) <= 250
        assert "  " not in text


def test_document_is_up_to_date() -> None:
    message = "docs/errors.md is out of date: run python -m tests.tools.error_document"
    assert error_document.FILE.read_text("utf-8") == error_document.text(), message


def test_errors_page_has_an_anchor_for_each_code(browser: Browser) -> None:
    explained: list[str] = []
    for part in PARTS:
        page = browser.get(path_of_part(part))
        assert page.status == 200
        codes = re.findall(r'<h2 id="([a-z_]+)"', page.body)
        explained += codes
        assert [part_of(code) for code in codes] == [part] * len(codes)
        assert "`" not in page.body, "text in backticks is shown as code"
        text = html.unescape(re.sub("</?code>", "`", page.body))
        assert all(words in text for code in codes for words in astuple(EXPLANATIONS[code]))
    assert sorted(explained) == sorted(EXPLANATIONS)


def test_old_address_of_an_error_code_leads_to_its_explanation(browser: Browser) -> None:
    page = browser.get("/errors").body
    for code in EXPLANATIONS:
        assert page.count(f'id="{code}"') == 1
        assert part_of(code) == "" or f'<li id="{code}"><a href="{explanation_path(code)}">' in page


def test_unknown_part_of_the_errors_page_is_not_found(browser: Browser) -> None:
    assert browser.get("/errors?part=other").status == 404


# ---- error pages

Trigger = Callable[[Site, Browser, Registered], Answer]  # causes an error page


def _consent(site: Site, browser: Browser, client: Registered) -> Answer:
    return browser.sign_in(browser.authorize(client))


def _answered(site: Site, browser: Browser, client: Registered) -> Answer:
    page = _consent(site, browser, client)
    browser.submit(page, decision="deny")
    site.clock.advance(61)  # then it is no longer the second press of a button
    return browser.submit(page, decision="allow_once")


def _expired(site: Site, browser: Browser, client: Registered) -> Answer:
    page = browser.sign_in(authorize_stored(browser, client))
    site.clock.advance(site.settings.request_lifetime)
    return browser.submit(page, decision="allow_once")


def _in_another_browser(site: Site, browser: Browser, client: Registered) -> Answer:
    page = authorize_stored(browser, client)
    browser.cookies.clear()
    return browser.get(page.url)


def _without_cookies(site: Site, browser: Browser, client: Registered) -> Answer:
    page = _consent(site, browser, client)
    browser.cookies.clear()
    return browser.send(page, decision="allow_once")


def _sent(site: Site, browser: Browser, client: Registered, headers: Any = None, **values: str) -> Answer:
    return browser.send(_consent(site, browser, client), headers, **values)


def _fault(site: Site, browser: Browser, client: Registered) -> Answer:
    def fail(*_: Any) -> None:
        raise RuntimeError(PASSWORD)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(site.server.store.clients, "get", fail)
        site.server.forget_cached_records()
        return browser.authorize(client)


ERROR_PAGES: dict[str, tuple[int, Trigger]] = {
    "unknown_client": (400, lambda _site, browser, client: browser.authorize(client, client_id="unknown")),
    "redirect_uri_mismatch": (
        400,
        lambda _s, browser, client: browser.authorize(client, redirect_uri="https://x.org/"),
    ),
    "redirect_uri_missing": (400, lambda _site, browser, client: browser.authorize(client, redirect_uri=None)),
    "request_expired": (400, _expired),
    "request_answered": (400, _answered),
    "wrong_browser": (400, _in_another_browser),
    "cookies_blocked": (400, _without_cookies),
    "wrong_site": (400, partial(_sent, headers={"Sec-Fetch-Site": "cross-site"})),
    "form_not_ours": (400, partial(_sent, decision="unknown")),
    "navigation_only": (
        400,
        lambda _s, browser, client: browser.authorize(client, "/oauth2/code", headers={"Sec-Fetch-Mode": "cors"}),
    ),
    "email_link_ended": (400, lambda _site, browser, _client: browser.get("/account/link", link="em_forged")),
    "let_in_ended": (400, lambda _site, browser, _client: browser.get("/account/let-in", link="let_forged")),
    "not_found": (404, lambda site, _browser, _client: GatewayBrowser(site, GATEWAYS[0]).get("/nothing")),
    "method_not_allowed": (405, lambda _site, browser, _client: browser.request("DELETE", "/oauth2/code")),
    "invalid_request": (400, lambda _site, browser, _client: browser.get("/oauth2/authorize", client_id="x" * 129)),
    "server_error": (500, _fault),
}


@pytest.mark.parametrize("code", ERROR_PAGES)
def test_error_page_has_the_explanation_and_the_log_its_code_and_request_id(
    site: Site, browser: Browser, caplog: pytest.LogCaptureFixture, code: str
) -> None:
    site.user()
    status, trigger = ERROR_PAGES[code]
    client = site.client(direct_sign_in=True)
    page = trigger(site, browser, client)
    line = json.loads(caplog.records[-1].getMessage())
    text = html.unescape(page.body)
    assert (page.status, page.header("content-type")) == (status, "text/html; charset=utf-8")
    error = EXPLANATIONS[code]
    assert f"<h1>{error.title}</h1>" in text
    assert error.meaning in text
    assert error.for_user in text
    assert f'<a href="{explanation_path(code)}">' in text
    assert f'<code dir="ltr">{code}</code>' in text
    assert line["code"] == code
    assert f'<code dir="ltr">{line["request_id"]}</code>' in text


def test_error_of_a_json_response_has_its_code_in_the_log(
    site: Site, browser: Browser, caplog: pytest.LogCaptureFixture
) -> None:
    client = site.client()
    answer = browser.post("/oauth2/token", {"grant_type": "x"}, basic(client.id, client.secret or ""))
    assert answer.json["error"] == "unsupported_grant_type"
    assert json.loads(caplog.records[-1].getMessage())["code"] == "unsupported_grant_type"
