"""Make moto about three times as fast without changing its answers: thousands of tests call it.

The patches only cache or skip what moto repeats for each value, each node and each expression; they know no rule of
DynamoDB. `tests/storage_keys/test_quick_moto.py` compares the answers with those of moto alone.
"""

import copy
import functools
import inspect
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import moto.backend_index
import moto.core.responses
from moto.core.serialize import JSONSerializer
from moto.dynamodb.comparisons import AttributeValue, ConditionExpressionParser
from moto.dynamodb.models.dynamo_type import DynamoType
from moto.dynamodb.models.table import Table
from moto.dynamodb.parsing import validators
from moto.dynamodb.parsing.ast_nodes import (
    DDBTypedValue,
    DepthFirstTraverser,
    Expression,
    ExpressionAttributeName,
    ExpressionAttributeValue,
    Node,
    UpdateExpression,
    UpdateExpressionFunction,
    UpdateExpressionPath,
    UpdateExpressionValue,
)
from moto.dynamodb.parsing.executors import UpdateExpressionExecutor
from moto.dynamodb.parsing.expressions import UpdateExpressionParser

EXPRESSIONS = 10_000  # kept by each cache
_originals: list[tuple[Any, str, Any]] = []


@contextmanager
def quick_moto() -> Iterator[None]:
    """Patch moto to cache the lookups that it repeats."""
    order = sorted(moto.backend_index.backend_url_patterns, key=lambda pattern: pattern[0] != "dynamodb")
    methods = functools.cache(moto.core.responses.method_names_from_class)
    with ExitStack() as stack:
        for owner, name, replacement in [
            (
                JSONSerializer,
                "_serialize_type_structure",
                _structure(JSONSerializer._serialize_type_structure),
            ),
            (UpdateExpressionParser, "make", _make_update(UpdateExpressionParser.make)),
            (validators, "deepcopy", _copy_later),
            (validators.Validator, "validate", _validate()),
            (Node, "find_clauses", _find_clauses),
            (DepthFirstTraverser, "traverse_node_recursively", _traverse),
            (ConditionExpressionParser, "parse", _parse_condition(ConditionExpressionParser.parse)),
            (ConditionExpressionParser, "_make_operand", _make_operand(ConditionExpressionParser._make_operand)),
            (moto.core.responses, "method_names_from_class", methods),
            (moto.backend_index, "backend_url_patterns", order),
        ]:
            _originals.append((owner, name, inspect.getattr_static(owner, name)))
            stack.enter_context(mock.patch.object(owner, name, replacement))
        stack.enter_context(mock.patch.object(Table, "__deepcopy__", _copy_table, create=True))
        yield
    _originals.clear()


@contextmanager
def moto_alone() -> Iterator[None]:
    """Undo the patches in the block."""
    with ExitStack() as stack:
        for owner, name, original in _originals:
            stack.enter_context(mock.patch.object(owner, name, original))
        yield


def _structure(serialize: Any) -> Any:
    """Return the method, which does not try a dozen spellings for each of the ten types that an attribute may have."""

    def structure(serializer: Any, serialized: Any, value: Any, shape: Any, key: str) -> None:
        if shape.name != "AttributeValue" or type(value) is not dict:
            serialize(serializer, serialized, value, shape, key)
            return
        inside = serializer.MAP_TYPE() if key else serialized
        for name in value.keys() & shape.members.keys():
            if value[name] is not None:
                serializer._serialize(inside, value[name], shape.members[name], name)
        if key:
            serializer._default_serialize(serialized, inside, shape, key)

    return structure


def _copy_table(table: Any, memo: dict[int, Any]) -> Any:
    """Copy a table for the case that a transaction fails: it may change the items and the stream."""
    copied = copy.copy(table)
    copied.items, copied.stream_shard = copy.deepcopy((table.items, table.stream_shard), memo)
    return copied


# ---- update expressions: a tree of nodes; ten traversers check and change a copy of it

# They decide by the expression, the names and the keys of the table, and change nothing.
CHECKS = (
    validators.ActionCountValidator,
    validators.OverlappingPathsValidator,
    validators.UpdateHashRangeKeyValidator,
)
CHECKS_OF_VALUES = (validators.TypeMismatchValidator, validators.EmptyStringKeyValueValidator)
# `#name` and `#name = :value`
PLAIN = ([ExpressionAttributeName], [ExpressionAttributeName, ExpressionAttributeValue])


def _make_update(make: Any) -> Any:
    @functools.lru_cache(EXPRESSIONS)
    def parsed(expression: str) -> Any:
        tree = make(expression)
        tree.expression = expression
        tree.plain_actions = _plain_actions(tree)
        return tree

    return staticmethod(parsed)


def _plain_actions(tree: Any) -> list[Any] | None:
    """Return the type, the name and the value of each action, or None unless all are like `#name = :value`.

    That is what Signet sends, except for members of a map.
    """
    actions = []
    for node in tree.find_clauses(list(UpdateExpressionExecutor.execution_map)):
        path, *values = node.children
        values = [value.children[0] if type(value) is UpdateExpressionValue else value for value in values]
        sizes = [len(each.children) for each in node.children]
        if [type(each) for each in (*path.children, *values)] not in PLAIN or set(sizes) != {1}:
            return None
        actions.append((type(node), path.children[0].children[0], *(value.children[0] for value in values)))
    return actions


def _resolved(actions: list[Any], names: dict[str, str], values: dict[str, Any]) -> Any:
    """Return the tree that the processors make of plain actions, or None when a name or a value is missing."""
    nodes = []
    for action, name, *value in actions:
        if name not in names or any(each not in values for each in value):
            return None
        path = UpdateExpressionPath(children=[ExpressionAttributeName(name)])
        nodes.append(action(children=[path, *(DDBTypedValue(DynamoType(values[each])) for each in value)]))
    return UpdateExpression(children=nodes)


def _validate() -> Any:
    checked: set[Any] = set()

    def validate(validator: Any) -> Any:
        tree, names = validator.node_to_validate, validator.expression_attribute_names or {}
        key = (tree.expression, frozenset(names.items()), *validator.table.table_key_attrs)
        processors = [each for each in validator.processors if key not in checked or not isinstance(each, CHECKS)]
        if key in checked and tree.plain_actions:
            resolved = _resolved(tree.plain_actions, names, validator.expression_attribute_values or {})
            if resolved:
                tree, processors = resolved, [each for each in processors if isinstance(each, CHECKS_OF_VALUES)]
        if tree is validator.node_to_validate:
            tree = _copy(tree)
        for processor in processors:
            tree = processor.traverse(tree)
        checked.add(key)
        return tree

    return validate


@functools.cache
def _is_node(kind: Any) -> bool:
    return issubclass(kind, Node)


@functools.cache
def _has_clauses(kind: Any) -> bool:
    return issubclass(kind, Expression | UpdateExpressionFunction)


@functools.cache
def _processed_as(kind: Any, classes: tuple[type, ...]) -> type | None:
    """Return the first of the classes that a type of nodes belongs to."""
    return next((each for each in classes if issubclass(kind, each)), None)


def _copy_later(value: Any) -> Any:
    """Copy a value, but leave the copy of a tree to `validate`, which seldom needs one."""
    return value if _is_node(type(value)) else copy.deepcopy(value)  # type: ignore[arg-type]


def _copy(tree: Any, parent: Any = None) -> Any:
    """Copy a tree of nodes, as copy.deepcopy does."""
    kind: Any = type(tree)
    if not _is_node(kind):
        return copy.deepcopy(tree)
    copied = object.__new__(kind)
    copied.__dict__.update(tree.__dict__, parent=parent)
    if tree.children is not None:
        children = [child if type(child) in (str, int, bool) else _copy(child, copied) for child in tree.children]
        copied.children = children
    return copied


def _find_clauses(node: Any, types: list[type]) -> list[Any]:
    clauses = []
    for child in node.children or []:
        kind: Any = type(child)
        if kind in types:
            clauses.append(child)
        elif _has_clauses(kind):
            clauses += child.find_clauses(types)
    return clauses


def _traverse(traverser: Any, node: Any, child_id: int = -1) -> Any:
    kind: Any = type(node)
    if not _is_node(kind):
        return node
    processors = vars(traverser).get("_processors")
    if processors is None:
        processors = traverser._processors = traverser._processing_map()
        traverser._classes = tuple(processors)
    parent = node.parent
    for number, child in enumerate(node.children or ()):
        traverser.pre_processing_of_child(node, number)
        _traverse(traverser, child, number)
    processed_as = _processed_as(kind, traverser._classes)
    if processed_as is not None:
        node = processors[processed_as](node)
        node.parent = parent
        if parent:
            parent.children[child_id] = node
    return node


# ---- condition expressions: parsed once for the same text and names, with placeholders instead of the values


class _Tree(ConditionExpressionParser):  # type: ignore[misc]
    """A parser that returns the tree instead of its operations."""

    def _make_op_condition(self, node: Any) -> Any:
        return node


def _parse_condition(parse: Any) -> Any:
    @functools.lru_cache(EXPRESSIONS)
    def tree(expression: str, names: frozenset[Any] | None, values: frozenset[str] | None) -> Any:
        tree = _Tree(
            expression,
            None if names is None else dict(names),
            None if values is None else dict.fromkeys(values),
        )
        return parse(tree), tree.expr_attr_names_found, tree.expr_attr_values_found

    def parse_condition(parser: Any) -> Any:
        names, values = parser.expression_attribute_names, parser.expression_attribute_values
        if not parser.condition_expression:
            return parse(parser)
        node, names_found, values_found = tree(
            parser.condition_expression,
            None if names is None else frozenset(names.items()),
            None if values is None else frozenset(values),
        )
        parser.expr_attr_names_found += names_found
        parser.expr_attr_values_found += values_found
        return parser._make_op_condition(node)

    return parse_condition


def _make_operand(make_operand: Any) -> Any:
    def operand(parser: Any, node: Any) -> Any:
        if node.kind == parser.Kind.EXPRESSION_ATTRIBUTE_VALUE:
            return AttributeValue(parser.expression_attribute_values[node.text])
        return make_operand(parser, node)

    return operand
