"""Verification of DPoP proofs (RFC 9449 section 4.3), and the nonces that they may have (section 8).

Nothing is stored for a proof alone: each endpoint records it in what it writes anyway. A nonce is the HMAC of a period
of two minutes, so that any process can check those of another one.
"""

from typing import Any

from chalicelib.http.messages import Request
from chalicelib.keys.client_keys import ACCEPTED, Jwt, is_signed_by_key, read_jwt, read_public_key
from chalicelib.keys.signing import thumbprint
from chalicelib.protocol import dpop, fapi
from chalicelib.protocol.client import Client
from chalicelib.protocol.dpop import Proof
from chalicelib.protocol.errors import InvalidDpopProof, UseDpopNonce
from chalicelib.server import AuthorizationServer

# Strongest for its cost first. The first is what clients should use.
ALGORITHMS = tuple(sorted(ACCEPTED, key=("ES256", "EdDSA", "Ed25519", "PS256", "RS256").index))
# Other places for a key or a certificate: only `jwk` is used, and a proof that names another is not what it seems.
_OTHER_KEYS = frozenset({"jku", "x5u", "x5c", "x5t", "x5t#S256"})


def read_proof(server: AuthorizationServer, http: Request, client: Client) -> Proof | None:
    """Return the verified proof of a client's request, which tokens are to be bound to; None without one.

    Raises InvalidDpopProof, also when the client must send one, and UseDpopNonce.
    """
    if http.header("dpop") is not None:
        return verify_proof(server, http, client)
    if client.dpop_bound_access_tokens:  # section 5.2
        current = server.read_client(client.client_id)  # no client is rejected because of a cached record
        if current is None or current.dpop_bound_access_tokens:
            raise InvalidDpopProof("The DPoP header is missing: this client must prove a key (RFC 9449).")
    return None


def verify_proof(server: AuthorizationServer, http: Request, client: Client, access_token: str | None = None) -> Proof:
    """Return the proof in a request's DPoP header, once every check of section 4.3 has passed.

    `access_token`: the one that is presented with it. Raises InvalidDpopProof and UseDpopNonce.
    """
    if client.dpop_nonce_required:
        _offer_nonce(server, http)  # on every answer, so that no request needs to be repeated
    try:
        jwt, key = _read(http.header("dpop") or "")
        if not fapi.allows_algorithm(client, jwt.alg):
            raise ValueError("its alg must be one of " + ", ".join(fapi.ALGORITHMS) + " for this client")
        # Before the signature, which costs most.
        proof = Proof(thumbprint(key), dpop.proof_digest(thumbprint(key), _jti(jwt)))
        _check_claims(server, http, jwt.claims, access_token)
    except ValueError as error:
        raise InvalidDpopProof(f"The DPoP proof is not valid: {error}.") from error
    if not is_signed_by_key(jwt, key):
        raise InvalidDpopProof("The DPoP proof is not valid: the key in its header has not signed it.")
    _check_nonce(server, http, client, jwt.claims.get("nonce"))
    return proof


def record_id(server: AuthorizationServer, client: Client, proof: Proof) -> str:
    """Return the id of the record that a request with this proof creates.

    So the insertion of the record refuses a repeated proof, and no other write is needed.
    """
    return "p" + server.keys.digest("dpop proof", client.client_id, proof.jti)[:21]


def _read(text: str) -> tuple[Jwt, dict[str, str]]:
    """Return a proof and the key in its header. Raises ValueError when it is malformed."""
    if len(text) > dpop.MAX_LENGTH:
        raise ValueError(f"it is longer than {dpop.MAX_LENGTH} characters")
    if "," in text:  # repeated header fields, joined by the gateway
        raise ValueError("there must be one DPoP header")
    try:
        jwt = read_jwt(text)
    except ValueError as error:
        raise ValueError("it is not a JWT without extensions") from error
    if jwt.header.get("typ") != dpop.TYPE:
        raise ValueError(f"its typ must be {dpop.TYPE}")
    if not jwt.alg:
        raise ValueError("its alg must be one of " + ", ".join(ALGORITHMS))
    if not _OTHER_KEYS.isdisjoint(jwt.header):
        raise ValueError("its header may have a key in jwk only")
    try:
        return jwt, read_public_key(jwt.header.get("jwk"))
    except ValueError as error:
        raise ValueError(
            "the jwk in its header must be a public key for signatures that this server accepts"
        ) from error


def _jti(jwt: Jwt) -> str:
    jti = jwt.claims.get("jti")
    if not isinstance(jti, str) or not 0 < len(jti) <= dpop.MAX_JTI or not jti.isascii():
        raise ValueError(f"its jti must have 1 to {dpop.MAX_JTI} ASCII characters")
    return jti


def _check_claims(server: AuthorizationServer, http: Request, claims: dict[str, Any], token: str | None) -> None:
    """Raise ValueError when a proof is for another request or another time."""
    now, address, htu = server.now(), server.address_of(http), claims.get("htu")
    if claims.get("htm") != http.method:
        raise ValueError(f"its htm must be {http.method}")
    if not isinstance(htu, str) or not dpop.is_same_address(htu, address):
        raise ValueError("its htu must be the address of this endpoint, as the metadata have it")
    times = [claims[name] for name in ("iat", "exp", "nbf") if name in claims]
    if "iat" not in claims or not all(isinstance(time, int | float) and not isinstance(time, bool) for time in times):
        raise ValueError("it must have an iat, and times must be numbers of seconds")
    if not now - dpop.MAX_AGE <= claims["iat"] <= now + dpop.MAX_AHEAD:
        raise ValueError(f"its iat must be at most {dpop.MAX_AGE} seconds ago and {dpop.MAX_AHEAD} ahead")
    if claims.get("exp", now) < now - dpop.MAX_AHEAD or claims.get("nbf", now) > now + dpop.MAX_AHEAD:
        raise ValueError("it has expired, or is not valid yet")
    if token is not None and claims.get("ath") != dpop.access_token_hash(token):
        raise ValueError("its ath must be the hash of the access token")


def _check_nonce(server: AuthorizationServer, http: Request, client: Client, nonce: object) -> None:
    """Check the nonce of a proof: if there is one, or the client must have one, it is of this period or the last.

    No other client is given one: then it would have to send one (section 11.3). Raises UseDpopNonce.
    """
    if (nonce is None and not client.dpop_nonce_required) or _is_current(server, nonce):
        return
    if not client.dpop_nonce_required:
        _offer_nonce(server, http)
    raise UseDpopNonce("The DPoP proof must have the nonce in the DPoP-Nonce header of this response.")


def _is_current(server: AuthorizationServer, nonce: object) -> bool:
    """Return whether a nonce was issued in this period or the last."""
    issued = dpop.split_nonce(nonce) if isinstance(nonce, str) else None
    if issued is None:
        return False
    period, tag = issued
    is_recent = dpop.nonce_period(server.now()) - period <= 1
    return is_recent and server.keys.is_valid_form_tag(dpop.nonce_subject(period), tag)


def _offer_nonce(server: AuthorizationServer, http: Request) -> None:
    """Add a current nonce to the response, whatever it will be (section 8.2)."""
    period = dpop.nonce_period(server.now())
    nonce = f"{period}.{server.keys.form_tag(dpop.nonce_subject(period))}"
    http.answer_headers.append({"DPoP-Nonce": nonce})
