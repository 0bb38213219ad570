"""Signet on this machine: the embedded database and its state, the demo data, the local server."""
