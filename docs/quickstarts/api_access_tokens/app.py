"""An API that accepts access tokens of Signet (JWT, RFC 9068) and checks them itself: Flask and PyJWT."""

import os

import jwt
import requests
from flask import Flask, Response, abort, request

ISSUER = os.environ.get("ISSUER", "http://localhost:8000")
AUDIENCE = os.environ.get("AUDIENCE", "https://api.example.com/photos")
CHECKS = {"issuer": ISSUER, "audience": AUDIENCE, "algorithms": ["RS256", "PS256", "ES256", "EdDSA"]}
CHECKS["options"] = {"require": ["iss", "aud", "exp", "iat", "sub", "client_id", "jti"]}
METADATA = requests.get(f"{ISSUER}/.well-known/openid-configuration", timeout=10).json()
KEYS = jwt.PyJWKClient(METADATA["jwks_uri"], timeout=10)  # caches the keys, and finds new ones after a rotation
app = Flask(__name__)


def authorize(scope: str) -> dict:
    """Return the claims of the request's access token; abort if it does not allow this (RFC 6750 section 3)."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        abort(Response(status=401, headers={"WWW-Authenticate": "Bearer"}))
    try:
        if jwt.get_unverified_header(token).get("typ") != "at+jwt":  # an ID token, for example
            raise jwt.InvalidTokenError
        claims = jwt.decode(token, KEYS.get_signing_key_from_jwt(token), **CHECKS)
    except jwt.PyJWKClientConnectionError:
        abort(503)
    except jwt.PyJWTError:
        abort(Response(status=401, headers={"WWW-Authenticate": 'Bearer error="invalid_token"'}))
    if scope not in claims.get("scope", "").split():
        abort(Response(status=403, headers={"WWW-Authenticate": f'Bearer error="insufficient_scope", scope="{scope}"'}))
    return claims


@app.get("/photos")
def list_photos() -> dict:
    """List the photos of the person, or of the application, that the access token is about."""
    return {"owner": authorize("photos.read")["sub"], "photos": ["cat.jpg"]}
