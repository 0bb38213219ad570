"""Frozen dataclasses that are created quickly behave as those of the standard library."""

import copy
import dataclasses
import pickle
from typing import Any

import pytest

from chalicelib.protocol import client, grant, handles, records
from chalicelib.protocol.values import dataclass
from chalicelib.settings import Settings
from tests.storage_keys.test_store import EXAMPLES


@dataclass(frozen=True)
class Quick:
    """Fields of every kind."""

    a: int
    b: tuple[int, ...] = ()
    c: dict[str, int] = dataclasses.field(default_factory=dict)
    secret: str = dataclasses.field(default="s", repr=False)
    cached: int = dataclasses.field(default=0, compare=False)


@dataclasses.dataclass(frozen=True)
class Usual:
    """The same fields."""

    a: int
    b: tuple[int, ...] = ()
    c: dict[str, int] = dataclasses.field(default_factory=dict)
    secret: str = dataclasses.field(default="s", repr=False)
    cached: int = dataclasses.field(default=0, compare=False)


@dataclass(frozen=True)
class Derived(Quick):
    """A subclass."""

    d: int = 4


@dataclass(frozen=True, kw_only=True)
class Named:
    """Only keywords."""

    x: int
    y: int = 2


@dataclass(frozen=True, eq=False)
class Same:
    """Compared by identity."""

    x: int


@dataclass(frozen=True)
class Names:
    """Fields with the names of parameters and variables."""

    members: int
    missing: int = 2
    values: list[int] = dataclasses.field(default_factory=list)


ARGUMENTS: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
    ((1,), {}),
    ((1, (2,)), {"secret": "t"}),
    ((1,), {"c": {"x": 1}, "cached": 5}),
]


@pytest.mark.parametrize(("arguments", "members"), ARGUMENTS)
def test_instance_is_as_one_of_the_standard_library(arguments: tuple[Any, ...], members: dict[str, Any]) -> None:
    quick, usual = Quick(*arguments, **members), Usual(*arguments, **members)
    assert vars(quick) == vars(usual) == dataclasses.asdict(quick)
    assert repr(quick) == repr(usual).replace("Usual", "Quick")
    assert quick == Quick(*arguments, **members) != dataclasses.replace(quick, a=7)
    assert quick == dataclasses.replace(quick, cached=9)
    assert quick.__eq__(usual) is NotImplemented
    assert copy.deepcopy(quick) == pickle.loads(pickle.dumps(quick)) == quick


@pytest.mark.parametrize("arguments", [(), (1, 2, 3, 4, 5, 6)])
def test_wrong_arguments_raise_type_error(arguments: tuple[Any, ...]) -> None:
    for _ in range(2):
        with pytest.raises(TypeError, match="argument"):
            Quick(*arguments)
    with pytest.raises(TypeError, match="other"):
        Quick(1, other=2)  # type: ignore[call-arg]


def test_default_of_a_factory_is_not_shared() -> None:
    assert Quick(1).c is not Quick(1).c


def test_field_cannot_be_changed() -> None:
    quick = Quick(1)
    for name in ("a", "new"):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(quick, name, 2)
    with pytest.raises(dataclasses.FrozenInstanceError):
        del quick.a
    assert quick == Quick(1)


def test_equal_instances_have_the_same_hash() -> None:
    assert len({Quick(1, c=None), Quick(1, c=None, cached=1), Quick(2, c=None)}) == 2  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="unhashable"):
        hash(Quick(1))


def test_subclass_has_the_fields_of_both() -> None:
    derived = Derived(1, secret="t")
    assert (derived.a, derived.secret, derived.d) == (1, "t", 4)
    assert derived != Quick(1, secret="t")
    assert [field.name for field in dataclasses.fields(Derived)][-1] == "d"


def test_field_may_have_any_name() -> None:
    assert vars(Names(1, values=[3])) == {"members": 1, "missing": 2, "values": [3]}


def test_keywords_and_identity_are_kept() -> None:
    assert Named(x=1) == Named(x=1, y=2)
    with pytest.raises(TypeError, match="positional"):
        Named(1)  # type: ignore[call-arg]
    assert Same(1) != Same(1)
    assert len({Same(1), Same(1)}) == 2


@pytest.mark.parametrize("kind", EXAMPLES)
def test_every_record_equals_its_copy_and_no_record_with_another_value(kind: str) -> None:
    record = EXAMPLES[kind][0]
    assert dataclasses.replace(record) == record
    for field in dataclasses.fields(record):
        assert dataclasses.replace(record, **{field.name: object()}) != record, field.name


@pytest.mark.parametrize("cls", [Settings, client.Client, grant.Grant, handles.Handle, records.User])
def test_fields_have_the_order_and_defaults_of_the_standard_library(cls: Any) -> None:
    fields = dataclasses.fields(cls)
    copies = [
        dataclasses.field(default=field.default, default_factory=field.default_factory, kw_only=field.kw_only)
        for field in fields
    ]
    usual = dataclasses.make_dataclass(
        "Usual", [(field.name, field.type, copied) for field, copied in zip(fields, copies, strict=True)]
    )
    required = [
        field
        for field in fields
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    ]
    given = {field.name: object() for field in required}
    assert vars(cls(**given)) == vars(usual(**given))
    positional = [given.pop(field.name) for field in required if not field.kw_only]
    assert vars(cls(*positional, **given)) == vars(usual(*positional, **given))
