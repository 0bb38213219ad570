"""The vocabulary of the protocols and their pure rules: values in, values out.

Owns error classes, records, scopes, claims, response types, redirect URIs, PKCE, handles, identifiers, durations, and
the rule that decides the next step of an authorization. It does no input or output, and must not know HTTP, storage,
keys or settings.
"""
