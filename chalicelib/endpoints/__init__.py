"""The endpoints, one module per path, and the page of an error at any of them.

A module is imported by the first request to one of its endpoints: a function that answers token requests never loads
the pages. SnapStart loads all before its snapshot (`load_all`).
"""

from collections.abc import Callable
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from typing import Any


class Endpoints:
    """The endpoints of a module of this package: `Endpoints("token").post` imports it when it is first called."""

    def __init__(self, module: str):
        self._module = f"{__name__}.{module}"

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("_"):
            raise AttributeError(name)

        @cache
        def load() -> Callable[..., Any]:
            loaded: Callable[..., Any] = getattr(import_module(self._module), name)
            return loaded

        def endpoint(*arguments: Any) -> Any:
            return load()(*arguments)

        endpoint.__qualname__ = f"{self._module}.{name}"
        return endpoint


def load_all() -> None:
    """Import the modules of all endpoints."""
    for module in iter_modules(__path__):
        import_module(f"{__name__}.{module.name}")
