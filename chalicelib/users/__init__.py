"""Users: registering, changing, disabling and deleting a user, and changing a password.

Owns the rules for a user record. It must not know authorization requests or endpoints.
"""
