"""HTTP in and out: requests and responses as values, the gateways' events, CSRF rules, and outbound requests.

Owns the sockets and the formats of API Gateway and Function URL events. It must not know storage, keys, or who is
signed in.
"""
