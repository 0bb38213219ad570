"""Signet: an OAuth 2.1 and OpenID Connect authorization server on AWS Lambda and DynamoDB."""

__version__ = "0.1.0"
