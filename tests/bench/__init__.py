"""The benchmark, `python -m tests.bench`: the cost of a request in time, memory, DynamoDB units and money."""
