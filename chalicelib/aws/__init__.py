"""A small client of AWS: signed requests over kept connections.

Owns Signature Version 4, the credentials of the environment, and the connections to AWS. Knows the protocols, and no
table, key, record or mail. It is here because boto3 takes longer to load than everything else in a cold start, and half
of the processor time of a request (ARCHITECTURE.md, "Libraries").
"""
