"""The benchmark: `python -m tests.bench` says what a request costs, in time, memory, DynamoDB units and money."""
