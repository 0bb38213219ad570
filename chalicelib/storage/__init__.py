"""Records in DynamoDB: one table per kind of record, verbs over conditional writes, transactions.

Owns DynamoDB's API: the expressions and the packing of records. It must not know what a record means: no rule of the
protocol is decided here.
"""
