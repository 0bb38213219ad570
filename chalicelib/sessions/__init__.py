"""Sessions: browsers in which a user is signed in, and how sessions and grants end.

Owns the cookies, revocation, the list of connected applications and back-channel logout. It must not know the pages or
the steps of an authorization.
"""
