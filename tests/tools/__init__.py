"""Commands that maintain files of this repository."""
