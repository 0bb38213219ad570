"""Authorization: from an authorization request to its answer.

Reads and checks the request, asks the user for what is missing, creates the grant, and sends the response. It must
not know the token endpoint, nor which endpoint called it.
"""
