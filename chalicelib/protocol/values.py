"""Frozen dataclasses that are created quickly.

`dataclasses.dataclass` compiles six methods for each class, which was a third of the time that it took to import this
server. Here all classes share their methods, except `__init__`, which is compiled when the first instance is made.
"""

import dataclasses
from functools import cache
from typing import TYPE_CHECKING, Any

_UNCOMPILED: list[Any] = []

if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass
else:

    def dataclass(*, frozen, eq=True, kw_only=False):
        """Return the decorator of `dataclasses` for a frozen class. It must have a docstring."""
        assert frozen  # noqa: S101  a class that changes needs the original

        def decorate(cls):
            cls = dataclasses.dataclass(init=False, repr=False, eq=False, kw_only=kw_only)(cls)
            cls.__init__ = _compile_and_init
            _UNCOMPILED.append(cls)
            cls.__setattr__, cls.__delattr__ = _refuse, _refuse
            if "__repr__" not in vars(cls):
                cls.__repr__ = _repr
            if eq and "__eq__" not in vars(cls):
                cls.__eq__, cls.__hash__ = _eq, _hash
            return cls

        return decorate


def compile_all() -> None:
    """Compile what would be compiled when the first instances are made, before a snapshot."""
    while _UNCOMPILED:
        cls = _UNCOMPILED.pop()
        cls.__init__ = _init_of(cls)


def _compile_and_init(self: Any, *arguments: Any, **members: Any) -> None:
    owner: Any = next(cls for cls in type(self).__mro__ if "__dataclass_fields__" in vars(cls))
    owner.__init__ = _init_of(owner)
    owner.__init__(self, *arguments, **members)


def _init_of(cls: Any) -> Any:
    # No field has a name with two underscores.
    values: dict[str, Any] = {"__missing": dataclasses.MISSING}
    parameters, lines = ["__self"], ["__members = __self.__dict__"]
    keywords: list[str] = []
    for field in (field for field in dataclasses.fields(cls) if field.init):
        parameter, value = field.name, field.name
        if field.default is not dataclasses.MISSING:
            values[f"__default_{field.name}"] = field.default
            parameter += f"=__default_{field.name}"
        elif field.default_factory is not dataclasses.MISSING:
            values[f"__make_{field.name}"] = field.default_factory
            parameter += "=__missing"
            value = f"__make_{field.name}() if {field.name} is __missing else {field.name}"
        (keywords if field.kw_only else parameters).append(parameter)
        lines.append(f"__members[{field.name!r}] = {value}")
    signature = ", ".join([*parameters, *(["*", *keywords] if keywords else [])])
    exec(f"def __init__({signature}):\n " + "\n ".join(lines), values)  # noqa: S102  names of fields, not data
    return values["__init__"]


@cache
def _compared(cls: Any) -> tuple[str, ...]:
    return tuple(field.name for field in dataclasses.fields(cls) if field.compare)


def _eq(self: Any, other: Any) -> Any:
    if other.__class__ is not self.__class__:
        return NotImplemented
    return all(getattr(self, name) == getattr(other, name) for name in _compared(self.__class__))


def _hash(self: Any) -> int:
    return hash(tuple(getattr(self, name) for name in _compared(self.__class__)))


def _repr(self: Any) -> str:
    shown = (f"{field.name}={getattr(self, field.name)!r}" for field in dataclasses.fields(self) if field.repr)
    return f"{type(self).__qualname__}({', '.join(shown)})"


def _refuse(_self: Any, name: str, *_value: Any) -> None:
    raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")
