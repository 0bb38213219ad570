"""DPoP proofs of clients (RFC 9449), and the requests that they are sent with."""

from typing import Any

from chalicelib.protocol.dpop import access_token_hash
from chalicelib.protocol.handles import new_id
from tests.support.assertions import KeyPair, key_pair, sign
from tests.support.browser import Answer, Browser
from tests.support.site import Registered, Site

TOKEN, PAR, USERINFO = "/oauth2/token", "/oauth2/par", "/oauth2/userinfo"


def public_jwk(pair: KeyPair) -> dict[str, Any]:
    """Return the public key of a proof, with its required members only."""
    return {name: value for name, value in pair.jwk.items() if name not in ("kid", "use")}


def header_of_proof(pair: KeyPair | None = None, **changes: Any) -> dict[str, Any]:
    """Return the header of a valid proof with changes; a member of None is left out."""
    pair = pair or key_pair()
    given = {"typ": "dpop+jwt", "alg": pair.alg, "jwk": public_jwk(pair)} | changes
    return {name: value for name, value in given.items() if value is not None}


def claims_of_proof(site: Site, path: str = TOKEN, method: str = "POST", **changes: Any) -> dict[str, Any]:
    """Return the claims of a valid proof with changes; one of None is left out."""
    given = {"jti": new_id(), "htm": method, "htu": site.settings.issuer + path, "iat": site.clock.time} | changes
    return {name: value for name, value in given.items() if value is not None}


def make_proof(
    site: Site,
    path: str = TOKEN,
    method: str = "POST",
    pair: KeyPair | None = None,
    header: dict[str, Any] | None = None,
    **changes: Any,
) -> str:
    """Return a signed proof, valid unless the header or changes of its claims say otherwise."""
    pair = pair or key_pair()
    claims = claims_of_proof(site, path, method, **changes)
    proof = sign(pair, header_of_proof(pair, **(header or {})), claims)
    site.secrets.add(proof)
    return proof


def with_proof(site: Site, path: str = TOKEN, method: str = "POST", **changes: Any) -> dict[str, str]:
    """Return the header field with a new proof."""
    return {"DPoP": make_proof(site, path, method, **changes)}


def with_token(site: Site, token: str, method: str = "GET", **changes: Any) -> dict[str, str]:
    """Return the header fields of a UserInfo request with an access token and a new proof."""
    proof = with_proof(site, USERINFO, method, **({"ath": access_token_hash(token)} | changes))
    return proof | {"Authorization": f"DPoP {token}"}


def userinfo(browser: Browser, token: str, **changes: Any) -> Answer:
    """Request UserInfo with an access token that is bound to a key."""
    return browser.get(USERINFO, with_token(browser.site, token, **changes))


def bound_tokens(browser: Browser, client: Registered, **parameters: Any) -> dict[str, Any]:
    """Go through the whole flow with a proof at the token endpoint; return the token response."""
    answer = browser.redeem(client, browser.code(client, **parameters), headers=with_proof(browser.site))
    assert answer.status == 200, answer.body
    return answer.json
