"""Records in DynamoDB: one table per kind of record, verbs over conditional writes, transactions.

Owns boto3's DynamoDB client, the expressions and the packing of records. It must not know what a record means: no
rule of the protocol is decided here.
"""
