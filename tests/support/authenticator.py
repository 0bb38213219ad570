"""An authenticator in software: it creates passkeys, and signs in with them, as the script of the pages sends it."""

import hashlib
import html
import json
import re
import secrets
import struct
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from fido2 import cbor
from fido2.cose import ES256, RS256, CoseKey, EdDSA

from chalicelib.protocol.handles import base64url, from_base64url
from chalicelib.server import AuthorizationServer
from tests.support.account import sign_in_to_account
from tests.support.browser import Answer, Browser
from tests.support.site import PASSWORD, Site

UP, UV, BE, BS, AT = 0x01, 0x04, 0x08, 0x10, 0x40
SYNCED = UP | UV | BE | BS
ES, ED, RS = -7, -8, -257


def _new_key(alg: int) -> tuple[Any, CoseKey]:
    classes: dict[int, Any] = {ED: EdDSA, RS: RS256, ES: ES256}
    encode = classes[alg].from_cryptography_key
    if alg == ED:
        ed_key = ed25519.Ed25519PrivateKey.generate()
        return ed_key, encode(ed_key.public_key())
    if alg == RS:
        rsa_key = rsa.generate_private_key(65537, 2048)
        return rsa_key, encode(rsa_key.public_key())
    key = ec.generate_private_key(ec.SECP256R1())
    return key, encode(key.public_key())


@dataclass
class Credential:
    """A passkey in the authenticator. `count`: its signature counter; `counts`: whether it has one."""

    rp_id: str
    user_handle: bytes
    key: Any
    public_key: CoseKey
    id: bytes = field(default_factory=lambda: secrets.token_bytes(32))
    count: int = 0
    counts: bool = False


class Authenticator:
    """`origin`: of the pages. `flags`: of every answer."""

    def __init__(self, origin: str, flags: int = SYNCED, alg: int = ES):
        self.origin, self.flags, self.alg = origin, flags, alg
        self.credentials: list[Credential] = []

    def create(self, options: dict[str, Any], *, flags: int | None = None, **client_data: Any) -> dict[str, Any]:
        """Create a passkey, and return the answer. `client_data`: other members of the client data."""
        key, public = _new_key(self.alg)
        credential = Credential(options["rp"]["id"], from_base64url(options["user"]["id"]), key, public)
        self.credentials.append(credential)
        given = self.flags if flags is None else flags
        return self.attestation(credential, options, given | AT, **client_data)

    def attestation(
        self, credential: Credential, options: dict[str, Any], flags: int, **client_data: Any
    ) -> dict[str, Any]:
        """Return the answer with this passkey."""
        encoded = cbor.encode(dict(credential.public_key))
        attested = bytes(16) + struct.pack(">H", len(credential.id)) + credential.id + encoded
        data = authenticator_data(credential.rp_id, flags, credential.count) + (attested if flags & AT else b"")
        statement = {"fmt": "none", "attStmt": {}, "authData": data}
        return {
            "clientDataJSON": base64url(self._client_data("webauthn.create", options["challenge"], client_data)),
            "attestationObject": base64url(cbor.encode(statement)),
            "transports": ["internal", "hybrid"],
        }

    def get(
        self,
        options: dict[str, Any],
        *,
        flags: int | None = None,
        credential: Credential | None = None,
        **client_data: Any,
    ) -> dict[str, Any]:
        """Sign in with a passkey, by default the last one, and return the answer."""
        used = credential or self.credentials[-1]
        if used.counts:
            used.count += 1
        data = authenticator_data(used.rp_id, self.flags if flags is None else flags, used.count)
        client = self._client_data("webauthn.get", options["challenge"], client_data)
        return {
            "id": base64url(used.id),
            "clientDataJSON": base64url(client),
            "authenticatorData": base64url(data),
            "signature": base64url(sign(used.key, data + hashlib.sha256(client).digest())),
            "userHandle": base64url(used.user_handle),
        }

    def _client_data(self, kind: str, challenge: str, changes: dict[str, Any]) -> bytes:
        members = {"type": kind, "challenge": challenge, "origin": self.origin, "crossOrigin": False} | changes
        present = {name: value for name, value in members.items() if value is not None}
        return json.dumps(present, separators=(",", ":")).encode()


def authenticator_data(rp_id: str, flags: int, count: int) -> bytes:
    return hashlib.sha256(rp_id.encode()).digest() + struct.pack(">BI", flags, count)


def sign(key: Any, message: bytes) -> bytes:
    """Return the signature of a message."""
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key.sign(message)
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(message, padding.PKCS1v15(), hashes.SHA256())
    signature: bytes = key.sign(message, ec.ECDSA(hashes.SHA256()))
    return signature


# ---- the pages


def passkey_site(site_with: Callable[..., Site], **settings: Any) -> Site:
    """Return a server at http://localhost, where passkeys are possible."""
    other = site_with(**settings)
    other.settings = replace(other.settings, issuer=f"http://localhost:{other.port}")
    other.server = AuthorizationServer.connect(other.settings, other.clock)
    return other


def options_of(page: Answer, name: str = "data-passkey") -> dict[str, Any]:
    """Return the options of a page."""
    match = re.search(f'{name}="([^"]*)"', page.body)
    assert match, page.body
    options: dict[str, Any] = json.loads(html.unescape(match[1]))
    return options


def send_passkey(browser: Browser, page: Answer, answer: dict[str, Any] | str, **more: str) -> Answer:
    """Send the form of a page with the answer of an authenticator, and `more` fields."""
    text = answer if isinstance(answer, str) else json.dumps(answer)
    fields = {name: value for name, value in page.form.fields.items() if name not in ("username", "password")}
    sent = {"Sec-Fetch-Site": "same-origin", "Origin": browser.site.settings.issuer}
    return browser.post(page.form.action or "", fields | {"username": "", "password": "", "passkey": text} | more, sent)


def sign_in_with_passkey(browser: Browser, page: Answer, authenticator: Authenticator, **more: str) -> Answer:
    """Sign in with the last passkey of the authenticator, or use it as the second factor."""
    return send_passkey(browser, page, authenticator.get(options_of(page)), **more)


def post_passkeys(browser: Browser, action: str, **fields: str) -> Answer:
    """Send a form of /account/passkeys, with a valid tag."""
    tag = browser.get("/account/password").form.fields["tag"]
    form = {"tag": tag, "action": action, **fields}
    return browser.post("/account/passkeys", form, {"Sec-Fetch-Site": "same-origin"})


def add_passkey(browser: Browser, authenticator: Authenticator, name: str = "", **create: Any) -> Answer:
    """Add a passkey on the account page, in which the user has just signed in."""
    page = browser.get("/account/passkeys")
    answer = authenticator.create(options_of(page, "data-new-passkey"), **create)
    return post_passkeys(browser, "add", passkey=json.dumps(answer), name=name)


def user_with_passkey(
    browser: Browser, authenticator: Authenticator, username: str = "alice", password: str = PASSWORD
) -> None:
    """Sign an existing user in, add a passkey, and forget the session."""
    sign_in_to_account(browser, username, password)
    assert add_passkey(browser, authenticator).status == 303
    browser.cookies.clear()
