"""grant_type=authorization_code (RFC 6749 section 4.1.3, RFC 7636 section 4.6): proves a code."""

from functools import reduce
from operator import and_
from typing import Any, NoReturn

from chalicelib import access, audit, pkce, resources, tokens
from chalicelib.dynamodb import attr
from chalicelib.errors import InvalidGrant, InvalidTarget
from chalicelib.messages import Params, Request
from chalicelib.models import Client, Grant
from chalicelib.server import AuthorizationServer
from chalicelib.table import Refused

REFUSED = "The code is invalid, expired, used, or not for this client, redirect_uri and code_verifier."


def redeem(server: AuthorizationServer, http: Request, client: Client, form: Params) -> dict[str, Any]:
    """Redeem a code, in one conditional write whose condition is the whole proof: the token response.

    `resource` may narrow the access token. Raises InvalidRequest without a `code`, InvalidTarget for a resource that
    was not granted, InvalidGrant for any other reason. A valid replay ends the grant; a code presented with the wrong
    verifier or redirect URI is worth nothing afterwards.
    """
    handle = server.keys.read_handle("code", form.required("code"))
    verifier, redirect_uri = form.one("code_verifier"), form.one("redirect_uri")
    resource = resources.named(form)
    if handle is None:
        raise InvalidGrant(REFUSED, detail="not a code of ours")
    # A verifier that breaks the grammar matches nothing, whatever its hash.
    challenge = None if verifier is None else pkce.challenge(verifier) if pkce.is_verifier(verifier) else ""
    now = server.now()
    refresh_lifetime = tokens.refresh_token_lifetime(server, client)
    access_lifetime = tokens.access_token_lifetime(server, client)
    condition = (
        attr("client_id").eq(client.client_id)
        & (attr("redirect_uri_sent").eq(False) if redirect_uri is None else attr("redirect_uri").eq(redirect_uri))
        & (attr("code_challenge").not_exists() if challenge is None else attr("code_challenge").eq(challenge))
        & attr("redeemed_at").not_exists()
        & attr("revoked_at").not_exists()
        & attr("code_expires_at").gt(now)
    )
    redeemed = server.store.grants.transition(
        (handle.id,),
        reduce(and_, (attr("resource").contains(uri) for uri in sorted(resource)), condition),
        {"redeemed_at": now, "generation": 1, "expires_at": now + (refresh_lifetime or access_lifetime)},
    )
    if isinstance(redeemed, Refused):
        _refuse(server, http, client, redeemed.record, handle.id, redirect_uri, challenge)
    # The client may have been registered for refresh tokens after the grant was born without a time for them.
    refreshable = refresh_lifetime and redeemed.ends_at > now
    refresh_token = server.keys.make_handle("rt", handle.id, 1) if refreshable else None
    try:
        members = tokens.issue(server, client, redeemed, redeemed.scope, refresh_token, redeemed.nonce, resource)
    except Exception:
        _give_back(server, redeemed)
        raise
    audit.note(http, audit.CODE_REDEEMED, sub=redeemed.sub)
    return members


def _give_back(server: AuthorizationServer, redeemed: Grant) -> None:
    """No token was made (KMS did not sign): the code counts again, or the client's next try would end the grant."""
    untouched = attr("generation").eq(1) & attr("revoked_at").not_exists()
    born = {"generation": 0, "expires_at": redeemed.code_expires_at}
    server.store.grants.transition((redeemed.grant_id,), untouched, born, remove=("redeemed_at",))


def _refuse(
    server: AuthorizationServer,
    http: Request,
    client: Client,
    record: Grant | None,
    grant_id: str,
    redirect_uri: str | None,
    challenge: str | None,
) -> NoReturn:
    """Why it was refused, on the record as it was; and what has to follow. Raises InvalidGrant or InvalidTarget."""
    if record is None or record.revoked_at is not None:
        raise InvalidGrant(REFUSED, detail="absent, expired or revoked")
    if record.client_id != client.client_id:
        raise InvalidGrant(REFUSED, detail="issued to another client")
    uri_right = not record.redirect_uri_sent if redirect_uri is None else record.redirect_uri == redirect_uri
    all_right = uri_right and record.code_challenge == challenge
    if record.redeemed_at is not None:
        if all_right:  # RFC 6749 section 4.1.2: somebody else has had this code
            access.end_reused(server, http, client, record)
            raise InvalidGrant(REFUSED, detail="replayed: the grant has been revoked")
        raise InvalidGrant(REFUSED, detail="used, and wrong")
    if not all_right:  # one guess is all that a stolen code is good for
        server.store.grants.transition((grant_id,), attr("redeemed_at").not_exists(), {"revoked_at": server.now()})
        raise InvalidGrant(REFUSED, detail="wrong redirect_uri or code_verifier: the code has been revoked")
    if record.code_expires_at <= server.now():
        raise InvalidGrant(REFUSED, detail="expired")
    raise InvalidTarget("The resource exceeds what was granted.")
