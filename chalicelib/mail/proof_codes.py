"""The link and the code of a proof, computed from its id whenever they are needed and never stored.

A proof id is `<purpose>.<what it is about>.<random>`; its record belongs to `authentication.proofs`. The code does not
depend on the keys that are rotated, so that a mail that is sent twice has the same code. The link does: it is valid for
as long as the handles of its key.
"""

import hashlib

from chalicelib.http.messages import with_query
from chalicelib.server import AuthorizationServer

LINK_PATH = "/account/link"
LINK_PARAMETER = "link"
ALPHABET = "23456789ABCDEFGHJKMNPQRSTVWXYZ"  # without 0, 1, I, L, O and U
CODE_LENGTH = 8


def link_handle(server: AuthorizationServer, proof_id: str) -> str:
    """Return the handle in the link of a proof. Raises TemporarilyUnavailable."""
    return server.keys.make_handle("em", proof_id)


def link(server: AuthorizationServer, proof_id: str) -> str:
    """Return the URL of the link of a proof. Raises TemporarilyUnavailable."""
    return with_query(server.issuer + LINK_PATH, {LINK_PARAMETER: link_handle(server, proof_id)})


def read_link(server: AuthorizationServer, text: str | None) -> str | None:
    """Return the id of the proof whose handle is `text`, or None. The record is not read."""
    handle = server.keys.read_handle("em", text)
    return handle.id if handle else None


def code_of(server: AuthorizationServer, proof_id: str, purpose: str) -> str:
    """Return the code of a proof: 39 bits. Compare it with the `normalize`d text in constant time."""
    digest = hashlib.sha256(server.keys.digest("email code", purpose, proof_id).encode()).digest()
    number, code = int.from_bytes(digest, "big"), ""
    for _ in range(CODE_LENGTH):
        number, rest = divmod(number, len(ALPHABET))
        code += ALPHABET[rest]
    return code


def normalize(text: str) -> str:
    """Return a code as it was typed, in upper case and without spaces and hyphens."""
    return "".join(text.split()).replace("-", "").upper()


def readable(code: str) -> str:
    """Return a code in two groups, such as `ABCD-2345`, for people who type it."""
    half = len(code) // 2
    return f"{code[:half]}-{code[half:]}"
