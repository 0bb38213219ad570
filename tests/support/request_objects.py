"""Request objects: authorization requests that a client has signed (RFC 9101)."""

from typing import Any

from chalicelib.protocol.handles import new_id
from tests.support.assertions import KeyPair, key_pair, sign
from tests.support.browser import Answer, Browser, authorization_parameters
from tests.support.site import Registered, Site

TYPE = "oauth-authz-req+jwt"


def claims_of_request(site: Site, client: Registered, **changes: Any) -> dict[str, Any]:
    """Return the claims of a valid request object with changes; one of None is left out."""
    now = site.clock.time
    given: dict[str, Any] = {"iss": client.id, "aud": site.settings.issuer, "jti": new_id()}
    given |= {"nbf": now, "iat": now, "exp": now + 300}
    return {
        name: value for name, value in (given | authorization_parameters(client) | changes).items() if value is not None
    }


def request_object(
    site: Site,
    client: Registered,
    pair: KeyPair | None = None,
    header: dict[str, Any] | None = None,
    **changes: Any,
) -> str:
    """Return a request object, valid unless the header or changes of its claims say otherwise."""
    pair = pair or key_pair()
    given = {"alg": pair.alg, "kid": pair.kid, "typ": TYPE} | (header or {})
    given = {name: value for name, value in given.items() if value is not None}
    return sign(pair, given, claims_of_request(site, client, **changes))


def authorize_signed(browser: Browser, client: Registered, text: str, **beside: Any) -> Answer:
    """Send a request object, with other parameters beside it."""
    return browser.get("/oauth2/authorize", **({"client_id": client.id, "request": text} | beside))


def answer_signed(
    browser: Browser, client: Registered, text: str, decision: str = "allow_once", **beside: Any
) -> Answer:
    """Send a request object, go through sign-in and consent, and return the authorization response."""
    answer = browser.follow(authorize_signed(browser, client, text, **beside))
    if "password" in answer.form.fields:
        answer = browser.sign_in(answer)
    return browser.submit(answer, decision=decision) if "tag" in answer.form.fields else answer
