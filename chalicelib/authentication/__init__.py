"""Authentication: passwords, the rules for new ones, sign-in attempts, and the throttle that limits guessing.

Owns passlib. It must not know authorization: what an application may access is not decided here.
"""
