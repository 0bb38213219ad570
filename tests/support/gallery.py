"""Open every page in a real browser, one after the other: for tests of how pages look, and for screenshots."""

import base64
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import mkdtemp
from typing import Any
from urllib.parse import urlencode

from playwright.sync_api import Page, Route

from chalicelib import pages
from chalicelib.http.messages import Request
from chalicelib.mail import proof_codes
from chalicelib.mail.message import compose
from chalicelib.pages.explanations import explain
from chalicelib.protocol.authentication_context import REFEDS_MFA
from chalicelib.protocol.authorization_type import AuthorizationType, type_key
from chalicelib.protocol.client import Client
from chalicelib.protocol.durations import DAY
from chalicelib.protocol.errors import InvalidRequest
from chalicelib.protocol.grant import Grant
from chalicelib.protocol.identifiers import username_identifier
from chalicelib.protocol.outgoing_mail import OutgoingMail
from chalicelib.protocol.own_scope import Scope
from chalicelib.protocol.passkey import Passkey
from chalicelib.protocol.proof import Proof
from chalicelib.protocol.records import Consent, Session
from chalicelib.protocol.resource import Resource
from chalicelib.settings import LOCAL_SENDER
from infra.local import mailbox
from tests.support.browser import CHALLENGE
from tests.support.packaging import RUN_FOLDER
from tests.support.second_factor import hotp
from tests.support.site import PASSWORD, Site

API = "https://api.example.com/photos"
HOME = "https://print.example.com/callback"
ON_THIS_DEVICE = "http://127.0.0.1:51004/callback"
OWN_SCHEME = "com.example.print:/callback"

# Waits for the style sheet only: a form that is sent by a script ends the loading of its page.
STYLED = "link => link.sheet ? true : new Promise(done => { link.onload = () => done(true) })"


def local_settings() -> dict[str, Any]:
    """Return the settings of a local server: with the playground, and with a mailbox that the run deletes."""
    mails = {"email_from": LOCAL_SENDER, "mailbox": mkdtemp(dir=os.environ[RUN_FOLDER])}
    return {"playground": True, "sign_up": True, "email_code_sign_in": True, **mails}


def keep_mail(site: Site, username: str) -> None:
    """Let the mailbox of the local server keep a mail about this user."""
    now = site.clock()
    values = {"username": username}
    mail = OutgoingMail("m", now, now + DAY, "sub", "password_changed", "alice@example.com", values)
    raw = base64.b64encode(compose(site.server, mail)).decode()
    mailbox.receive(Path(site.settings.mailbox or ""), json.dumps({"Content": {"Raw": {"Data": raw}}}).encode())


@dataclass(frozen=True)
class Words:
    """Texts on the pages that come from clients, users and requests."""

    client_name: str = "Photo Print"
    username: str = "alice"
    scope: str = "photos.read"
    description: str = "See your photos and albums"
    state: str = "af0ifjsldkj"
    login_hint: str = ""
    unknown_client: str = "unknown"


class Gallery:
    """All pages of a site, opened by one user who goes through every flow."""

    def __init__(self, site: Site, page: Page, words: Words | None = None):
        self.site = site
        self.page = page
        self.words = words or Words()

    def pages(self) -> Iterator[str]:
        """Open each page in turn, and yield its name."""
        yield from self._public()
        yield from self._signing_in()
        yield from self._consents()
        yield from self._signed_in()
        yield from self._rare_pages()

    def _public(self) -> Iterator[str]:
        issuer = self.site.settings.issuer
        for name, path in [
            *(("home", "/"), ("errors", "/errors"), ("errors_sign_in", "/errors?part=sign-in")),
            ("errors_applications", "/errors?part=applications"),
        ]:
            self.page.goto(issuer + path)
            yield name
        self.page.goto(f"{issuer}/oauth2/authorize?" + urlencode({"client_id": self.words.unknown_client}))
        yield "error"
        if self.site.settings.mailbox:
            keep_mail(self.site, self.words.username)
            self.page.goto(f"{issuer}/mailbox")
            yield "mailbox"

    def _signing_in(self) -> Iterator[str]:
        earlier_secrets = set(self.site.secrets)
        self.user = self.site.user("gallery", password=None)
        (random,) = self.site.secrets - earlier_secrets
        store, name = self.site.server.store, self.words.username
        # Written to the tables directly: values that registration rejects must still be displayed safely.
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
        self._remember_consent(self.client, "openid profile")
        self.authorize(self.client)
        yield "consent_to_more"
        self.site.server.store.resources.put(Resource(API, API, self.words.client_name, self.words.scope))
        self.authorize(self.client, resource=API)
        yield "consent_for_an_api"
        self.authorize(self._asking_client(), authorization_details=self._details())
        yield "consent_with_details"
        self.authorize(self._client([ON_THIS_DEVICE], public=True))
        yield "consent_on_this_device"
        self.authorize(self._client([OWN_SCHEME], public=True))
        yield "consent_own_scheme"

    def _asking_client(self) -> Client:
        """Register a type of authorization details, and a client that may ask for it."""
        words = self.words
        members = ("instructedAmount", "creditorName=Payee", "creditorAccount", "actions")
        type_ = AuthorizationType(type_key("payment"), "payment", words.description, uri=API, members=members)
        self.site.server.store.authorization_types.put(type_)
        client = replace(self._client([HOME]), authorization_details_types=("payment",))
        self.site.server.store.clients.put(client)
        self.site.server.forget_cached_records()
        return client

    def _details(self) -> str:
        payment = {
            "type": "payment",
            "actions": ["initiate", self.words.description[:500]],
            "instructedAmount": {"amount": "123.50", "currency": "EUR"},
            "creditorName": self.words.client_name[:500],
            "creditorAccount": {self.words.username[:100]: ["DE02100100109307118603", {"bic": True}]},
        }
        return json.dumps([payment])

    def _signed_in(self) -> Iterator[str]:
        issuer = self.site.settings.issuer
        if self.site.settings.playground:
            yield from self._playground()
        self._used_elsewhere()
        for name in ("applications", "browsers", "activity", "password", "passkeys", "profile", "data", "delete"):
            self.page.goto(f"{issuer}/account" + (f"/{name}" if name != "applications" else ""))
            yield f"account_{name}"
        yield from self._second_factor()
        self.page.goto(f"{issuer}/account/browsers")
        self._send("sign_out_others")
        yield "account_done"
        self.page.goto(f"{issuer}/account/profile")
        self.page.locator("#birthdate").fill("yesterday")
        self._send()
        yield "account_profile_again"
        if self.site.settings.can_send_mail:
            yield from self._mail_flows()
            self.authorize(self.client, prompt="login")
            self._sign_in(self.words.username, PASSWORD)
            self._enter_code()
        query = urlencode({"client_id": self.client.client_id})
        unregistered = query + "&" + urlencode({"post_logout_redirect_uri": f"{HOME}/bye"})
        self.page.goto(f"{issuer}/oauth2/logout?{unregistered}")
        yield "sign_out_unregistered"
        self.page.goto(f"{issuer}/oauth2/logout?{query}")
        yield "sign_out"
        self._send("stay")
        yield "still_signed_in"
        self.page.goto(f"{issuer}/oauth2/logout?{query}")
        self._send("sign_out")
        yield "signed_out"
        self.page.goto(f"{issuer}/oauth2/logout?{unregistered}")
        yield "signed_out_unregistered"
        user = self.site.server.store.users.get(self.user.sub)
        assert user
        self.page.goto(self.site.let_in_link(user))
        yield "let_in"
        self._send()
        yield "let_in_done"
        self.authorize(self.client)
        self._sign_in(self.words.username, PASSWORD)
        yield "second_factor"
        self.page.locator("#one_time_code").fill("000000")
        self._send()
        yield "second_factor_again"
        self._enter_code()
        yield from self._deletion()

    def _second_factor(self) -> Iterator[str]:
        """Set up a second factor inside a request, and open its page of the account."""
        self.page.goto(f"{self.site.settings.issuer}/account/second-factor")
        yield "account_second_factor_off"
        self.page.goto(f"{self.site.settings.issuer}/account/second-factor?set_up=yes")
        yield "account_second_factor_setup"
        self.authorize(self._client([HOME], require_acr=REFEDS_MFA))
        yield "enrol_second_factor"
        self._secret = secret = (self.page.locator("#secret").text_content() or "").replace(" ", "")
        self.site.secrets.add(secret)
        self.page.locator("#one_time_code").fill("000000")
        self._send()
        yield "enrol_second_factor_again"
        self.page.locator("#one_time_code").fill(hotp(base64.b32decode(secret), self.site.clock() // 30))
        self._send()
        self.site.secrets.update((self.page.locator("#codes").text_content() or "").split())
        yield "enrol_second_factor_codes"
        self.page.locator("#saved").check()
        self._send()
        self.page.goto(f"{self.site.settings.issuer}/account/second-factor")
        yield "account_second_factor"

    def _deletion(self) -> Iterator[str]:
        """Delete the account, and restore it."""
        issuer = self.site.settings.issuer
        self.page.goto(f"{issuer}/account/delete")
        self.page.locator("#password").fill("wrong password")
        self._send("delete")
        yield "account_delete_again"
        self.page.locator("#password").fill(PASSWORD)
        self._send("delete")
        yield "account_restore"
        self._send()
        yield "account_restored"
        self.page.goto(f"{issuer}/account/restore")
        yield "account_restore_nothing"
        if self.site.settings.can_send_mail:
            yield from self._restoration_by_email()

    def _restoration_by_email(self) -> Iterator[str]:
        """Delete the account again, and restore it with the code that the email would have."""
        issuer = self.site.settings.issuer
        self.page.goto(f"{issuer}/account")
        self._sign_in(self.words.username, PASSWORD)
        self._enter_code()
        self.page.goto(f"{issuer}/account/delete")
        self.page.locator("#password").fill(PASSWORD)
        self._send("delete")
        self.page.goto(f"{issuer}/account/link?link={self._link('restore')}")
        yield "email_code_to_restore"
        self.page.locator("#code").fill(self._code("restore"))
        self._send()
        yield "restore_account"
        self._send()
        yield "restore_account_done"

    def _mail_flows(self) -> Iterator[str]:
        """Forget the password and change the address, with the codes that the emails would have."""
        issuer, server = self.site.settings.issuer, self.site.server
        verified = {"email": "alice@example.com", "email_verified": True}
        user = server.store.users.get(self.user.sub)
        assert user
        server.store.users.put(replace(user, claims=user.claims | verified))
        self.page.goto(f"{issuer}/account/email")
        yield "account_email"
        self.page.locator("#email").fill("new@example.com")
        self._send("change_email")
        yield "account_email_code"
        self.page.goto(f"{issuer}/account/link?link={self._link('verify')}")
        yield "confirm_address"
        self.page.goto(f"{issuer}/account/email?proof={self._proof('verify').proof_id}")
        self.page.locator("#code").fill(self._code("verify"))
        self._send("confirm_email")
        self.page.goto(f"{issuer}/account/link?link={self._link('undo')}")
        yield "email_code_elsewhere"
        self.page.locator("#code").fill(self._code("undo"))
        self._send()
        yield "undo_address"
        self._send()
        yield "undo_address_done"
        self.page.goto(f"{issuer}/account/sign-up")
        yield "sign_up"
        self.page.locator("#email").fill("carol@example.com")
        self._send()
        self.page.locator("#code").fill(self._code("signup"))
        self._send()
        yield "new_account"
        self._change_password(PASSWORD)
        yield "new_account_done"
        self.page.goto(f"{issuer}/account/recover")
        yield "recover"
        self.page.locator("#username").fill(self.words.username)
        self._send()
        yield "email_code"
        self.page.locator("#code").fill(self._code("reset"))
        self._send()
        yield "reset_password"
        self._change_password(PASSWORD)
        yield "reset_password_done"
        yield from self._email_sign_in()

    def _email_sign_in(self) -> Iterator[str]:
        """Ask for a code to sign in with, enter a wrong one, and open the link, also in another browser."""
        issuer, context = self.site.settings.issuer, self.page.context
        self.authorize(self.client)
        self.page.locator("#username").fill(self.words.username)
        self._send("email_me")
        yield "email_sign_in"
        self.page.locator("#email_code").fill("22222222")
        self._send()
        yield "email_sign_in_again"
        link = f"{issuer}/account/link?link={self._link('signin')}"
        self.page.goto(link)
        yield "email_sign_in_link"
        cookies = context.cookies()
        context.clear_cookies()
        self.page.goto(link)
        yield "email_sign_in_link_elsewhere"
        context.clear_cookies()
        context.add_cookies([{**cookie} for cookie in cookies])  # type: ignore[typeddict-item]

    def _enter_code(self) -> None:
        """Enter the next code of the second factor."""
        self.site.clock.advance(60)
        self.page.locator("#one_time_code").fill(hotp(base64.b32decode(self._secret), self.site.clock() // 30))
        self._send()

    def _proof(self, purpose: str) -> Proof:
        proofs = [each for each in self.site.server.store.proofs.scan() if each.purpose == purpose]
        return proofs[-1]

    def _link(self, purpose: str) -> str:
        handle = proof_codes.link_handle(self.site.server, self._proof(purpose).proof_id)
        self.site.secrets.add(handle)
        return handle

    def _code(self, purpose: str) -> str:
        code = proof_codes.code_of(self.site.server, self._proof(purpose).proof_id, purpose)
        self.site.secrets.add(code)
        return code

    def _playground(self) -> Iterator[str]:
        self.page.goto(f"{self.site.settings.issuer}/playground")
        yield "playground"
        self._send()
        self._send("allow")
        yield "playground_code"
        self._send("token")
        yield "playground_tokens"
        self._send("userinfo")
        yield "playground_resource"
        self._send("refresh")
        self._send("replay")
        yield "playground_old_code"

    def _used_elsewhere(self) -> None:
        """Store a session and a grant from another browser, three days old and used since."""
        store, now = self.site.server.store, self.site.clock()
        user, calendar = store.users.get(self.user.sub), self.site.client(client_name="Calendar")
        assert user
        then, later = now - 3 * DAY - 4000, now + 30 * DAY
        idle = now - 4 * 60 * 60 + self.site.settings.session_idle_lifetime
        session = Session(f"{user.sub}.elsewhere", user.sub, then, idle, active_until=idle, device="Firefox on Windows")
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
            rotated_at={"1": now - DAY},
            device=session.device,
            session_stored=True,
            registration_id=self.client.registration_id,
            user_generation=user.grants_generation,
            sessions_generation=user.sessions_generation,
        )
        store.sessions.put(replace(session, sessions_generation=user.sessions_generation))
        store.grants.put(grant)
        for number, name in enumerate((self.words.client_name, "Laptop")):
            store.passkeys.put(
                Passkey(user.sub, str(number), "AQ", "oA", -7, "example.com", name=name, created_at=then)
            )
        self._remember_consent(calendar.record, "openid email", then)

    def _remember_consent(self, client: Client, scope: str, updated_at: int | None = None) -> None:
        user = self.site.server.store.users.get(self.user.sub)
        assert user
        consent = Consent(
            user.sub,
            client.client_id,
            frozenset(scope.split()),
            updated_at=self.site.clock() if updated_at is None else updated_at,
            consents_generation=user.consents_generation,
            registration_id=client.registration_id,
        )
        self.site.server.store.consents.put(consent)

    def _rare_pages(self) -> Iterator[str]:
        """Render the pages that one user cannot reach by a visit, with the same templates and headers."""
        fields = [("state", self.words.state), ("iss", self.site.settings.issuer)]
        error = InvalidRequest(f"The parameter {self.words.client_name} is repeated.")
        values: dict[str, Any] = {"explanation": explain(error.code), "error": error, "request_id": "x1"}
        values |= {"client": self.client, "start_again": "/", "account": True, "has_session": True, "sign_out": True}
        yield self._show("error_of_a_request", "error", **values)
        # A script sends the form; the answer 204 makes the browser stay on the page.
        self.page.route(HOME, lambda route: route.fulfill(status=204))
        yield self._show("form_post", client=self.client, action=HOME, fields=fields)

    def _http(self, name: str) -> Request:
        languages = {"accept-language": self.page.evaluate("navigator.languages.join()")}
        return Request("GET", f"/gallery/{name}", headers=languages)

    def _show(self, name: str, template: str = "", **values: Any) -> str:
        page = pages.page(template or name, self.site.settings, self._http(name), **values)
        response = pages.response(page, redirect_uri=HOME if name == "form_post" else None)
        url = f"{self.site.settings.issuer}/gallery/{name}"

        def fulfill(route: Route) -> None:
            route.fulfill(status=response.status, headers=dict(response.headers), body=response.body)

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
        """Open an authorization request of the client."""
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
