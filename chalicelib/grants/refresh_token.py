"""grant_type=refresh_token (RFC 6749 section 6), with refresh token rotation (RFC 9700 section 4.14.2)."""

from functools import reduce
from operator import and_, or_
from typing import Any

from chalicelib import events
from chalicelib.http.messages import Params, Request
from chalicelib.protocol.client import Client
from chalicelib.protocol.dpop import USED_BEFORE
from chalicelib.protocol.durations import MINUTE
from chalicelib.protocol.errors import InvalidDpopProof, InvalidGrant, InvalidScope
from chalicelib.protocol.grant import Grant
from chalicelib.protocol.handles import Handle
from chalicelib.protocol.records import NO_SCOPE
from chalicelib.protocol.scopes import parse_scope
from chalicelib.server import AuthorizationServer
from chalicelib.sessions import revocation
from chalicelib.sessions.lifetime import extend
from chalicelib.sessions.validity import require_valid
from chalicelib.storage.dynamodb import attr
from chalicelib.storage.table import Refused
from chalicelib.tokens import issue as tokens
from chalicelib.tokens.target import Target, parse_target

REFUSED = "The refresh token is invalid, expired, revoked, or was issued to another client."
ROTATIONS_KEPT = 4
MAX_OUTAGE = 10 * MINUTE


def redeem(server: AuthorizationServer, http: Request, client: Client, form: Params) -> dict[str, Any]:
    """Redeem a refresh token in one conditional write, and return the token response with its successor.

    `scope` and `authorization_details` may narrow the access token, `resource` names the one that it is for. What was
    not granted is left out of the scope, unless the client is registered with `strict_scope`. A token of a client that
    does not authenticate is bound to the key of its DPoP proof, or to its certificate. Raises InvalidRequest without a
    `refresh_token`, InvalidScope when nothing is left, InvalidTarget for a resource that was not granted or for
    several, InvalidAuthorizationDetails for details that exceed what was granted, InvalidDpopProof for a proof that was
    used before, and InvalidGrant for any other reason. Within the retry window an earlier token returns the current one
    again, so that a lost response signs no user out; later it is a replay, which revokes the grant. Then one read says
    whether the grant is still valid, as for a code; its session is extended.
    """
    handle = server.keys.read_handle("rt", form.require("refresh_token"))
    text = form.get("scope", at_most=4096)
    if handle is None:
        raise InvalidGrant(REFUSED, detail="not a refresh token of this server")
    scope, target = parse_scope(text) if text else NO_SCOPE, parse_target(form)
    if scope:  # before the token is consumed
        registered = tokens.limit_to_registration(server, client, scope)
        scope = scope if client.strict_scope else registered
    grant = _rotate(server, http, client, handle, scope, target)
    scope &= grant.scope
    # The successor is computed from the record, and never stored.
    successor = server.keys.make_handle("rt", grant.grant_id, grant.generation, handle.key_version)
    try:
        state = require_valid(server, client, grant)
        members = tokens.issue(
            server,
            client,
            grant,
            scope or grant.scope,
            successor,
            resource=target.resource,
            user=state.user,
            jkt=http.proof.jkt if http.proof else None,
            x5t=http.x5t,
            own_scopes=state.scopes,
            details=target.details,
            types=state.types,
        )
        if state.session:
            extend(server, state.session, by_browser=False)
    except InvalidGrant:
        raise
    except Exception:
        if grant.generation != handle.generation:  # else the presented token stays valid
            _extend_retry_window(server, grant, handle.generation)
        raise
    events.note(http, events.TOKEN_REFRESHED, sub=grant.sub)
    return members


def _extend_retry_window(server: AuthorizationServer, grant: Grant, generation: int) -> None:
    """Extend the retry window when no token was issued (KMS did not sign), so that a retry is no replay."""
    rotated_at = {f"rotated_at.{generation % ROTATIONS_KEPT}": server.now() + MAX_OUTAGE}
    unchanged = attr("generation").eq(grant.generation) & attr("revoked_at").not_exists()
    server.store.grants.transition((grant.grant_id,), unchanged, rotated_at)


def _rotate(
    server: AuthorizationServer,
    http: Request,
    client: Client,
    handle: Handle,
    scope: frozenset[str],
    target: Target,
) -> Grant:
    """Return the grant with its next generation, or as it is when this is a retry. Raises as `redeem` does.

    With a profile of FAPI 2.0, the generation stays the same: the refresh token is not replaced.
    """
    now, grant_id, generation = server.now(), handle.id, handle.generation
    proof = (
        attr("client_id").eq(client.client_id)
        & attr("redeemed_at").exists()
        & attr("generation").eq(generation)
        & attr("revoked_at").not_exists()
        & attr("ends_at").gt(now)
    )
    # A client whose document allows `none` too must prove its key again, once it has redeemed the code with it.
    unproven = client.document is not None and http.client_auth_method == "none"
    if unproven:
        proof &= attr("auth_method").not_exists() | attr("auth_method").eq("none")
    changes: dict[str, Any] = {}
    if http.proof:
        proof &= ~attr("dpop_jti").eq(http.proof.jti)
        changes["dpop_jti"] = http.proof.jti
    # Client authentication binds the refresh tokens of other clients, also when they change their key.
    bound = http.client_auth_method == "none"
    jkt, x5t = http.proof.jkt if http.proof else "", http.certificate.thumbprint if http.certificate else ""
    if bound:
        proof &= attr("refresh_token_jkt").not_exists() | attr("refresh_token_jkt").eq(jkt)
        changes |= {"refresh_token_jkt": jkt} if jkt else {}
        proof &= attr("refresh_token_x5t").not_exists() | attr("refresh_token_x5t").eq(x5t)
        changes |= {"refresh_token_x5t": http.x5t} if http.x5t else {}
    tokens_granted = [attr("scope").contains(token) for token in sorted(scope)]
    narrowing = tokens_granted if client.strict_scope or not scope else [reduce(or_, tokens_granted)]
    narrowing.append(target.granted(server))
    if tokens.rotates_refresh_tokens(client):
        changes |= {"generation": generation + 1, f"rotated_at.{generation % ROTATIONS_KEPT}": now}
    else:
        changes["refreshed_at"] = now
    changes["expires_at"] = now + tokens.refresh_token_lifetime(server, client)
    rotated = server.store.grants.transition((grant_id,), reduce(and_, narrowing, proof), changes)
    if not isinstance(rotated, Refused):
        return rotated
    record = rotated.record
    if record is None or record.revoked_at is not None or record.redeemed_at is None or record.ends_at <= now:
        raise InvalidGrant(REFUSED, detail="absent, expired or revoked")
    if record.client_id != client.client_id:
        raise InvalidGrant(REFUSED, detail="issued to another client")
    if unproven and record.auth_method not in (None, "none"):
        raise InvalidGrant(REFUSED, detail="the code was redeemed with another authentication method than none")
    if bound and record.refresh_token_jkt not in (None, jkt):
        raise InvalidGrant("The refresh token is bound to another DPoP key.", detail="wrong DPoP key")
    if bound and record.refresh_token_x5t not in (None, x5t):
        raise InvalidGrant("The refresh token is bound to another certificate.", detail="wrong certificate")
    if not scope <= record.scope and (client.strict_scope or not scope & record.scope):
        raise InvalidScope("The scope exceeds what was granted.")
    if refusal := target.refusal(server, record):
        raise refusal
    if target.is_narrower(record):
        return _rotate(server, http, client, handle, scope, target.as_proved())
    if http.proof and http.proof.jti == record.dpop_jti:
        raise InvalidDpopProof(USED_BEFORE)
    behind = record.generation - generation
    window = tokens.refresh_token_retry_window(server, client)
    if 0 < behind <= ROTATIONS_KEPT and now - record.rotated_at[str(generation % ROTATIONS_KEPT)] < window:
        return record
    if behind <= 0:
        raise InvalidGrant(REFUSED, detail="never issued")
    revocation.revoke_reused_grant(server, http, client, record)
    raise InvalidGrant(REFUSED, detail="reused long after its rotation: the grant has been revoked")
