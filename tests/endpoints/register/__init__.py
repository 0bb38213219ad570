"""Tests of /oauth2/register."""
