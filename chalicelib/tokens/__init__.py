"""Tokens: the access tokens and ID tokens of a grant, their subjects and resources.

Owns the claims of every token that this server issues. It must not know how a grant was proved or who sent the request.
"""
