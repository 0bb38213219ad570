"""moto with less searching: it answers the same, in two thirds of the time. Thousands of tests wait for its calls.

Nothing here knows a rule of DynamoDB: moto is only spared what it works out again for each value and each node.
"""

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import moto.backend_index
import moto.core.responses
from moto.core.serialize import JSONSerializer
from moto.dynamodb.parsing.ast_nodes import DepthFirstTraverser


@contextmanager
def quick_moto() -> Iterator[None]:
    """Have moto spare the work that it repeats."""
    serialize = JSONSerializer._serialize_type_structure
    methods = functools.cache(moto.core.responses.method_names_from_class)
    order = sorted(moto.backend_index.backend_url_patterns, key=lambda one: one[0] != "dynamodb")

    def structure(serializer: Any, serialized: Any, value: Any, shape: Any, key: str) -> None:
        if shape.name != "AttributeValue" or type(value) is not dict:
            serialize(serializer, serialized, value, shape, key)
            return
        # moto looks for each of the ten types that an attribute may have under a dozen spellings; it has one of them.
        inside = serializer.MAP_TYPE() if key else serialized
        for name in value.keys() & shape.members.keys():
            if value[name] is not None:
                serializer._serialize(inside, value[name], shape.members[name], name)
        if key:
            serializer._default_serialize(serialized, inside, shape, key)

    def classes(traverser: Any) -> Any:
        known = vars(traverser).get("_classes")
        if known is None:
            known = traverser._classes = tuple(traverser._processing_map())
        return known

    with (
        mock.patch.object(JSONSerializer, "_serialize_type_structure", structure),
        mock.patch.object(DepthFirstTraverser, "nodes_to_be_processed", classes),
        mock.patch.object(moto.core.responses, "method_names_from_class", methods),
        mock.patch.object(moto.backend_index, "backend_url_patterns", order),
    ):
        yield
