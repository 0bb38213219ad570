"""Signet: an OAuth 2.1 and OpenID Connect authorization server on AWS Lambda and DynamoDB."""
