"""One file per grant type: what it proves."""
