"""Keys: the ring of signing and handle keys, its envelope encryption, key rotation, signatures.

Owns PyJWT and cryptography. It must not know clients, users or grants: callers pass claims and get a signed token.
"""
