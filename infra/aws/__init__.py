"""Signet in AWS: the stacks, the package that is uploaded, `deploy` and `destroy`."""
