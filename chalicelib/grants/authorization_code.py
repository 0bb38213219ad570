"""grant_type=authorization_code (RFC 6749 section 4.1.3, RFC 7636 section 4.6)."""

from typing import Any, NoReturn

from chalicelib import events
from chalicelib.http.messages import Params, Request
from chalicelib.protocol import pkce
from chalicelib.protocol.client import Client
from chalicelib.protocol.dpop import USED_BEFORE
from chalicelib.protocol.errors import InvalidDpopProof, InvalidGrant
from chalicelib.protocol.grant import Grant
from chalicelib.server import AuthorizationServer
from chalicelib.sessions import revocation
from chalicelib.sessions.validity import require_valid
from chalicelib.storage.dynamodb import attr
from chalicelib.storage.table import Refused
from chalicelib.tokens import issue as tokens
from chalicelib.tokens.target import Target, parse_target

REFUSED = "The code is invalid, expired, already used, or not valid for this client, redirect_uri or code_verifier."


def redeem(server: AuthorizationServer, http: Request, client: Client, form: Params) -> dict[str, Any]:
    """Redeem an authorization code in one conditional write that checks it, and return the token response.

    Then one read says whether the grant is still valid: an ending of its user, session, consent or client revokes it.
    `resource` names the one that the access token is for, `authorization_details` narrow it. The refresh tokens of a
    client that does not authenticate are bound to the key of its DPoP proof, or to its certificate. Raises
    InvalidRequest without a `code`, InvalidTarget for a resource that was not granted or for several,
    InvalidAuthorizationDetails for details that exceed what was granted, InvalidDpopProof for a proof that was used
    before, and InvalidGrant for any other reason. A replay with valid parameters revokes the grant; a wrong
    code_verifier or redirect URI revokes the code.
    """
    handle = server.keys.read_handle("code", form.require("code"))
    verifier, redirect_uri = form.get("code_verifier"), form.get("redirect_uri")
    target = parse_target(form)
    resource = target.resource
    if handle is None:
        raise InvalidGrant(REFUSED, detail="not a code of this server")
    # A malformed code_verifier matches nothing, whatever its hash.
    challenge = None if verifier is None else pkce.challenge(verifier) if pkce.is_verifier(verifier) else ""
    now, proof = server.now(), http.proof
    refresh_lifetime = tokens.refresh_token_lifetime(server, client)
    # A grant without refresh tokens lasts as long as its access token.
    targets = server.resources({resource}) if resource and not refresh_lifetime else {}
    access_lifetime = tokens.access_token_lifetime(server, client, targets.get(resource or ""))
    condition = (
        attr("client_id").eq(client.client_id)
        & (attr("redirect_uri_sent").eq(False) if redirect_uri is None else attr("redirect_uri").eq(redirect_uri))
        & (attr("code_challenge").not_exists() if challenge is None else attr("code_challenge").eq(challenge))
        & attr("redeemed_at").not_exists()
        & attr("revoked_at").not_exists()
        & attr("code_expires_at").gt(now)
        & (attr("dpop_jkt").not_exists() | attr("dpop_jkt").eq(proof.jkt if proof else ""))
    )
    changes: dict[str, Any] = {
        "redeemed_at": now,
        "generation": 1,
        "expires_at": now + (refresh_lifetime or access_lifetime),
    }
    if proof:
        changes["dpop_jti"] = proof.jti
    if proof and http.client_auth_method == "none":
        changes["refresh_token_jkt"] = proof.jkt
    if http.x5t and http.client_auth_method == "none":
        changes["refresh_token_x5t"] = http.x5t
    if client.document:
        changes["auth_method"] = http.client_auth_method
    grants = server.store.grants
    redeemed = grants.transition((handle.id,), condition & target.granted(server), changes)
    if isinstance(redeemed, Refused) and target.is_narrower(redeemed.record):
        target = target.as_proved()
        redeemed = grants.transition((handle.id,), condition & target.granted(server), changes)
    if isinstance(redeemed, Refused):
        _refuse(server, http, client, redeemed.record, handle.id, redirect_uri, challenge, target)
    # A client may be registered for refresh tokens after the grant was created without a lifetime for them.
    refreshable = refresh_lifetime and redeemed.ends_at > now
    refresh_token = server.keys.make_handle("rt", handle.id, 1) if refreshable else None
    try:
        state = require_valid(server, client, redeemed)
        members = tokens.issue(
            server,
            client,
            redeemed,
            redeemed.scope,
            refresh_token,
            nonce=redeemed.nonce,
            resource=resource,
            user=state.user,
            jkt=proof.jkt if proof else None,
            x5t=http.x5t,
            own_scopes=state.scopes,
            details=target.details,
            types=state.types,
        )
    except InvalidGrant:
        raise
    except Exception:
        _restore_code(server, redeemed)
        raise
    events.note(http, events.CODE_REDEEMED, sub=redeemed.sub)
    return members


def _restore_code(server: AuthorizationServer, redeemed: Grant) -> None:
    """Make the code valid again when no token was issued (KMS did not sign): a retry must not look like a replay."""
    unchanged = attr("generation").eq(1) & attr("revoked_at").not_exists()
    changes = {"generation": 0, "expires_at": redeemed.code_expires_at}
    removed = ("redeemed_at", "refresh_token_jkt", "refresh_token_x5t", "dpop_jti")
    server.store.grants.transition((redeemed.grant_id,), unchanged, changes, remove=removed)


def _refuse(
    server: AuthorizationServer,
    http: Request,
    client: Client,
    record: Grant | None,
    grant_id: str,
    redirect_uri: str | None,
    challenge: str | None,
    target: Target,
) -> NoReturn:
    """Find out from the record why the code was rejected, revoke what must be revoked, and raise the error.

    Raises InvalidTarget for a resource that was not granted, InvalidAuthorizationDetails for details that exceed what
    was granted, InvalidDpopProof for a repeated proof, otherwise InvalidGrant.
    """
    if record is None or record.revoked_at is not None:
        raise InvalidGrant(REFUSED, detail="absent, expired or revoked")
    if record.client_id != client.client_id:
        raise InvalidGrant(REFUSED, detail="issued to another client")
    uri_matches = not record.redirect_uri_sent if redirect_uri is None else record.redirect_uri == redirect_uri
    parameters_match = uri_matches and record.code_challenge == challenge
    key_matches = record.dpop_jkt in (None, http.proof.jkt if http.proof else "")
    if record.redeemed_at is not None:
        if parameters_match and http.proof and http.proof.jti == record.dpop_jti:
            raise InvalidDpopProof(USED_BEFORE)
        if parameters_match and key_matches:  # RFC 6749 section 4.1.2: another party has used this code
            revocation.revoke_reused_grant(server, http, client, record)
            raise InvalidGrant(REFUSED, detail="replayed: the grant has been revoked")
        raise InvalidGrant(REFUSED, detail="replayed with a wrong redirect_uri, code_verifier or key")
    if not parameters_match:  # a stolen code allows one guess only
        server.store.grants.write(revocation.revoke_grant(server.store, grant_id, attr("redeemed_at").not_exists()))
        raise InvalidGrant(REFUSED, detail="wrong redirect_uri or code_verifier: the code has been revoked")
    if not key_matches:
        raise InvalidGrant("The code is bound to another DPoP key (RFC 9449 section 10).", detail="wrong DPoP key")
    if record.code_expires_at <= server.now():
        raise InvalidGrant(REFUSED, detail="expired")
    raise target.refusal(server, record) or InvalidGrant(REFUSED, detail="changed by another request")
