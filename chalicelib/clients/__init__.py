"""Clients: their registration, the rules for their metadata, and client authentication.

Owns everything that is decided about a client on its own. It must not know users, sessions or authorization requests.
"""
