"""Every page, one after the other, in a real browser: for tests of how pages look, and for pictures of them."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlencode

from playwright.sync_api import Page, Route

from chalicelib import pages
from chalicelib.error_codes import explain
from chalicelib.errors import InvalidRequest
from chalicelib.models import Client, Consent, Grant, Scope, Session
from chalicelib.registration import username_identifier
from tests.browser import CHALLENGE
from tests.site import PASSWORD, Site

HOME = "https://print.example.com/callback"
ON_THIS_DEVICE = "http://127.0.0.1:51004/callback"
OWN_SCHEME = "com.example.print:/callback"
_DAY = 24 * 60 * 60

# A form that sends itself ends the loading of its page, so that is not to be waited for.
STYLED = "link => link.sheet ? true : new Promise(done => { link.onload = () => done(true) })"


@dataclass(frozen=True)
class Words:
    """What comes from elsewhere and stands on the pages."""

    client_name: str = "Photo Print"
    username: str = "alice"
    scope: str = "photos.read"
    description: str = "See your photos and albums"
    state: str = "af0ifjsldkj"
    login_hint: str = ""
    unknown_client: str = "nobody"


class Gallery:
    """All pages of a site, as somebody sees them for whom everything happens that can."""

    def __init__(self, site: Site, page: Page, words: Words | None = None):
        self.site = site
        self.page = page
        self.words = words or Words()

    def pages(self) -> Iterator[str]:
        """Opens each page in turn, and says which it is."""
        yield from self._public()
        yield from self._signing_in()
        yield from self._consents()
        yield from self._signed_in()
        yield from self._made_for_the_occasion()

    def _public(self) -> Iterator[str]:
        issuer = self.site.settings.issuer
        for name, path in [("home", "/"), ("errors", "/errors")]:
            self.page.goto(issuer + path)
            yield name
        self.page.goto(f"{issuer}/oauth2/authorize?" + urlencode({"client_id": self.words.unknown_client}))
        yield "error"

    def _signing_in(self) -> Iterator[str]:
        known = set(self.site.secrets)
        self.user = self.site.user("gallery", password=None)
        (random,) = self.site.secrets - known
        store, name = self.site.server.store, self.words.username
        # Straight into the tables: what registration would refuse has to be shown safely all the same.
        claims = {"name": self.words.client_name, "email": f"{name}@example.com"}
        self.user = replace(self.user, username=name, claims=claims)
        store.users.put(self.user)
        identifier = store.identifiers.get(username_identifier("gallery"))
        assert identifier
        store.identifiers.put(replace(identifier, identifier=username_identifier(name)))
        store.scopes.put(Scope(self.words.scope, self.words.description))
        self.client = self._client([HOME])
        self.authorize(self.client)
        yield "sign_in"
        self._sign_in(name, "wrong password")
        yield "sign_in_again"
        self._sign_in(name, random)
        yield "change_password"
        self._change_password(random)
        yield "change_password_again"
        self._change_password(PASSWORD)

    def _consents(self) -> Iterator[str]:
        yield "consent"
        some = frozenset({"openid", "profile"})
        self.site.server.store.consents.put(
            Consent(self.user.sub, self.client.client_id, some, updated_at=self.site.clock())
        )
        self.authorize(self.client)
        yield "consent_to_more"
        self.authorize(self._client([ON_THIS_DEVICE], public=True))
        yield "consent_on_this_device"
        self.authorize(self._client([OWN_SCHEME], public=True))
        yield "consent_own_scheme"

    def _signed_in(self) -> Iterator[str]:
        issuer = self.site.settings.issuer
        if self.site.settings.playground:
            yield from self._playground()
        self._used_elsewhere()
        for name in ("applications", "browsers", "activity", "password"):
            self.page.goto(f"{issuer}/account" + (f"/{name}" if name != "applications" else ""))
            yield f"account_{name}"
        asked = urlencode({"client_id": self.client.client_id})
        self.page.goto(f"{issuer}/oauth2/logout?{asked}")
        yield "sign_out"
        self._send("stay")
        yield "still_signed_in"
        self.page.goto(f"{issuer}/oauth2/logout?{asked}")
        self._send("sign_out")
        yield "signed_out"

    def _playground(self) -> Iterator[str]:
        self.page.goto(f"{self.site.settings.issuer}/playground")
        yield "playground"
        self._send()
        self._send("allow_once")
        yield "playground_code"
        self._send("token")
        yield "playground_tokens"
        self._send("userinfo")
        yield "playground_resource"
        self._send("refresh")
        self._send("replay")
        yield "playground_old_code"

    def _used_elsewhere(self) -> None:
        """Some days ago, in another browser, the person has allowed an application, which has used it since."""
        store, now = self.site.server.store, self.site.clock()
        user, calendar = store.users.get(self.user.sub), self.site.client(client_name="Calendar")
        assert user
        then, later = now - 3 * _DAY - 4000, now + 30 * _DAY
        idle = now - 4 * 60 * 60 + self.site.settings.session_idle_lifetime
        session = Session(f"{user.sub}.elsewhere", user.sub, then, idle, device="Firefox on Windows")
        grant = Grant(
            grant_id="elsewhere",
            client_id=self.client.client_id,
            sub=user.sub,
            session_id=session.session_id,
            redirect_uri=HOME,
            redirect_uri_sent=True,
            auth_time=then,
            created_at=then,
            code_expires_at=then,
            expires_at=later,
            ends_at=later,
            scope=frozenset(self.client.scope.split()),
            redeemed_at=then,
            rotated_at={"1": now - _DAY},
            device=session.device,
        )
        store.sessions.put(replace(session, sessions_generation=user.sessions_generation))
        store.grants.put(grant)
        store.consents.put(Consent(user.sub, calendar.id, frozenset({"openid", "email"}), then))

    def _made_for_the_occasion(self) -> Iterator[str]:
        """Pages that need more than one visit to come about; they are made here, and look the same."""
        fields = [("state", self.words.state), ("iss", self.site.settings.issuer)]
        error = InvalidRequest(f"The parameter {self.words.client_name} is repeated.")
        yield self._show("error_of_a_request", "error", explanation=explain(error.code), error=error, request_id="x1")
        # The form sends itself: an answer without content leaves the page where it is.
        self.page.route(HOME, lambda route: route.fulfill(status=204))
        yield self._show("form_post", client=self.client, action=HOME, fields=fields)

    def _show(self, name: str, template: str = "", **values: Any) -> str:
        page = pages.page(template or name, self.site.settings, **values)
        made = pages.response(page, redirect_uri=HOME if name == "form_post" else None)
        url = f"{self.site.settings.issuer}/gallery/{name}"

        def fulfill(route: Route) -> None:
            route.fulfill(status=made.status, headers=dict(made.headers), body=made.body)

        self.page.route(url, fulfill)
        self.page.goto(url, wait_until="commit")
        self.page.get_by_role("button").or_(self.page.get_by_role("link")).first.wait_for()
        self.page.locator("link[rel=stylesheet]").evaluate(STYLED)
        return name

    def _client(self, redirect_uris: list[str], **members: Any) -> Client:
        scope = f"openid profile email {self.words.scope} offline_access"
        registered = self.site.client(redirect_uris=redirect_uris, scope=scope, **members).record
        about: dict[str, Any] = {
            name: f"https://print.example.com/{name}" for name in ("client_uri", "policy_uri", "tos_uri")
        }
        client = replace(registered, client_name=self.words.client_name, **about)
        self.site.server.store.clients.put(client)
        return client

    def authorize(self, client: Client, **parameters: str) -> None:
        """Follow an application's link."""
        given = {
            "response_type": "code",
            "client_id": client.client_id,
            "redirect_uri": client.redirect_uris[0],
            "scope": client.scope,
            "state": self.words.state,
            "login_hint": self.words.login_hint,
            "code_challenge": CHALLENGE,
            "code_challenge_method": "S256",
        }
        self.page.goto(f"{self.site.settings.issuer}/oauth2/authorize?" + urlencode(given | parameters))

    def _sign_in(self, username: str, password: str) -> None:
        self.page.locator("#username").fill(username)
        self.page.locator("#password").fill(password)
        self._send()

    def _change_password(self, password: str) -> None:
        for name in ("new_password", "new_password_again"):
            self.page.locator(f"#{name}").fill(password)
        self._send()

    def _send(self, decision: str = "") -> None:
        button = f"button[value={decision}]" if decision else "button.primary"
        with self.page.expect_navigation():
            self.page.locator(button).click()
