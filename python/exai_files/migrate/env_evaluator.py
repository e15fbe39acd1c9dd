"""What an expression gives that reads the environment, worked out from its text.

Only operations that can be told from their text are followed: nothing of the program is imported or run. Whatever else
there is makes the result unknown, never wrong.
"""

from __future__ import annotations

import ast
import builtins
import operator
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from exai_files.migrate.env_module import Function, Module, Program

__all__ = ["Evaluator", "Raised", "Scope", "Unknown"]

Value: TypeAlias = Any
"""What a program's expression gives."""

_TYPES: dict[str, type] = {each.__name__: each for each in (int, float, str, bool, list, tuple, set, frozenset)}
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    each.__name__: each for each in (len, min, max, abs, round, sorted, any, all)
}
_METHODS: dict[type, set[str]] = {
    str: {
        *("strip", "lstrip", "rstrip", "lower", "upper", "casefold", "title", "split", "rsplit", "splitlines"),
        *("startswith", "endswith", "replace", "removeprefix", "removesuffix", "partition", "rpartition"),
        *("isdigit", "isdecimal", "isnumeric", "join"),
    },
    dict: {"get", "items", "keys", "values"},
}
_OPERATORS: dict[type[ast.AST], Callable[[Value, Value], Value]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
    ast.In: lambda one, other: one in other,
    ast.NotIn: lambda one, other: one not in other,
    ast.Not: lambda one, _: not one,
    ast.USub: lambda one, _: -one,
    ast.UAdd: lambda one, _: +one,
}
_MOST_STEPS = 20_000
_LARGEST = 2**64
_LONGEST = 100_000


class Unknown(Exception):
    """It cannot be told."""


@dataclass(frozen=True)
class Raised:
    """The program would raise this."""

    name: str


@dataclass(frozen=True)
class Scope:
    """Where an expression is, and what its names stand for.

    Attributes:
        is_running: Whether the function is followed step by step; else its names count that are assigned once.
    """

    module: Module
    names: dict[str, Value] = field(default_factory=dict)
    function: Function | None = None
    is_running: bool = False

    def with_names(self, names: Mapping[str, Value]) -> Scope:
        return replace(self, names={**self.names, **names})


@dataclass(frozen=True)
class _Returned:
    value: Value


class Evaluator:
    """Evaluates with one environment; with None for what does not depend on any."""

    def __init__(self, program: Program, environment: Mapping[str, str] | None) -> None:
        self._program, self._environment = program, environment
        self._steps = 0

    def outcome(self, node: ast.expr, scope: Scope) -> object:
        """The value, or what is raised instead.

        Raises:
            Unknown: It cannot be told.
        """
        return self._guarded(lambda: self.value(node, scope))

    def outcome_of(self, function: Function) -> object:
        """Of a call without arguments.

        Raises:
            Unknown: It cannot be told.
        """
        return self._guarded(lambda: self._call(function, {}))

    def told(self, node: ast.expr, scope: Scope) -> Value:
        """The value.

        Raises:
            Unknown: It cannot be told, or there is none.
        """
        value = self.outcome(node, scope)
        if isinstance(value, Raised):
            raise Unknown
        return value

    def items(self, node: ast.expr, scope: Scope) -> list[Value]:
        """What a loop over it goes over.

        Raises:
            Unknown: It cannot be told, or nothing is.
        """
        return _in_turn(self.told(node, scope))

    def _guarded(self, work: Callable[[], object]) -> object:
        self._steps = 0
        try:
            return work()
        except Unknown:
            raise
        except RecursionError:
            raise Unknown from None
        except Exception as error:
            return Raised(type(error).__name__)

    # ===== expressions =====

    def value(self, node: ast.expr, scope: Scope) -> Value:
        self._steps += 1
        if self._steps > _MOST_STEPS:
            raise Unknown
        value = self._read(node, scope) if scope.module.read(node) else self._plain(node, scope)
        if isinstance(value, (str, list, tuple)) and len(value) > _LONGEST:
            raise Unknown
        return value

    def _read(self, node: ast.expr, scope: Scope) -> Value:
        kind, key_node, default = _known(scope.module.read(node))
        key = self.value(key_node, scope)
        if not isinstance(key, str) or self._environment is None:
            raise Unknown
        if kind in ("in", "not in"):
            return (key in self._environment) is (kind == "in")
        if key in self._environment:
            return self._environment[key]
        if kind == "item":
            raise KeyError(key)
        return None if default is None else self.value(default, scope)

    def _plain(self, node: ast.expr, scope: Scope) -> Value:
        match node:
            case ast.Constant():
                return node.value
            case ast.Name():
                return self._name(node.id, scope)
            case ast.Tuple() | ast.List() | ast.Set():
                kind = {ast.Tuple: tuple, ast.List: list, ast.Set: set}[type(node)]
                return kind([self.value(each, scope) for each in node.elts])
            case ast.Dict():
                return {self.value(_known(key), scope): self.value(each, scope) for key, each in _items(node)}
            case ast.BoolOp():
                return self._either(node, scope)
            case ast.UnaryOp():
                return self._operated(node.op, self.value(node.operand, scope), None)
            case ast.BinOp():
                return self._operated(node.op, self.value(node.left, scope), self.value(node.right, scope))
            case ast.Compare():
                return self._compared(node, scope)
            case ast.IfExp():
                return self.value(node.body if self.value(node.test, scope) else node.orelse, scope)
            case ast.Subscript():
                return self.value(node.value, scope)[self.value(node.slice, scope)]
            case ast.JoinedStr():
                return "".join(self._formatted(each, scope) for each in node.values)
            case ast.ListComp() | ast.SetComp() | ast.GeneratorExp():
                found = [self.value(node.elt, each) for each in self._each(node.generators, scope)]
                return set(found) if isinstance(node, ast.SetComp) else found
            case ast.Call():
                return self._called(node, scope)
        raise Unknown

    def _name(self, name: str, scope: Scope) -> Value:
        if name in scope.names:
            return scope.names[name]
        if scope.function and name in scope.function.locals:
            constants = {} if scope.is_running else scope.function.constants
            return self.value(_known(constants.get(name)), scope)
        if constant := self._program.constant(name, scope.module):
            module, node = constant
            return self.value(node, Scope(module))
        if name in scope.module.functions or name in scope.module.imported:
            raise Unknown
        return _known(_TYPES.get(name) or _FUNCTIONS.get(name))

    def _either(self, node: ast.BoolOp, scope: Scope) -> Value:
        value: Value = None
        for each in node.values:
            value = self.value(each, scope)
            if bool(value) is isinstance(node.op, ast.Or):
                break
        return value

    def _compared(self, node: ast.Compare, scope: Scope) -> bool:
        left = self.value(node.left, scope)
        for each, right_node in zip(node.ops, node.comparators, strict=True):
            right = self.value(right_node, scope)
            if not self._operated(each, left, right):
                return False
            left = right
        return True

    def _operated(self, operation: ast.AST, one: Value, other: Value) -> Value:
        numbers = [each for each in (one, other) if isinstance(each, (int, float))]
        is_arithmetic = isinstance(operation, (ast.Mult, ast.Mod, ast.Sub, ast.Div, ast.FloorDiv))
        is_text = isinstance(operation, ast.Mod) and isinstance(one, str) and not re.search("%[^s]", one)
        if (is_arithmetic and len(numbers) < 2 and not is_text) or any(abs(each) > _LARGEST for each in numbers):
            raise Unknown  # among others what would be very long
        return _known(_OPERATORS.get(type(operation)))(one, other)

    def _formatted(self, node: ast.expr, scope: Scope) -> str:
        if isinstance(node, ast.FormattedValue):
            value = self.value(node.value, scope)
            if node.format_spec or node.conversion != -1 or not isinstance(value, (str, int)):
                raise Unknown
            return str(value)
        return str(self.value(node, scope))

    def _each(self, generators: Sequence[ast.comprehension], scope: Scope) -> Iterator[Scope]:
        if len(generators) != 1 or generators[0].is_async:
            raise Unknown
        for item in _in_turn(self.value(generators[0].iter, scope)):
            inner = scope.with_names(bound(generators[0].target, item))
            if all(self.value(test, inner) for test in generators[0].ifs):
                yield inner

    # ===== calls =====

    def _called(self, node: ast.Call, scope: Scope) -> Value:
        is_local = isinstance(node.func, ast.Name) and node.func.id in scope.names
        functions = [] if is_local else self._program.called(node, scope.module)
        if functions:
            return _agreed([self._call(each, self._arguments(each, node, scope)) for each in functions])
        if node.keywords or any(isinstance(each, ast.Starred) for each in node.args):
            raise Unknown
        arguments = [self.value(each, scope) for each in node.args]
        if isinstance(node.func, ast.Attribute):
            return self._method(self.value(node.func.value, scope), node.func.attr, arguments)
        function = self._name(node.func.id, scope) if isinstance(node.func, ast.Name) else None
        if function not in (*_TYPES.values(), *_FUNCTIONS.values()):
            raise Unknown
        return _known(function)(*arguments)

    def _method(self, value: Value, name: str, arguments: list[Value]) -> Value:
        if name in _METHODS.get(type(value), set()):
            return getattr(value, name)(*arguments)
        if isinstance(value, str) and name == "format" and not re.search(r"\{[^{}]*[^{}\w][^{}]*\}", value):
            return value.format(*arguments)
        raise Unknown

    def _arguments(self, function: Function, call: ast.Call, scope: Scope) -> dict[str, Value]:
        given = function.arguments(call)
        if any(each.arg not in given for each in call.keywords) or not given.keys() <= function.names:
            raise Unknown
        return {name: self.value(each, scope) for name, each in given.items()}

    def _call(self, function: Function, arguments: dict[str, Value]) -> Value:
        if not function.is_plain:
            raise Unknown
        scope = Scope(function.module, dict(arguments), function, is_running=True)
        for name in (each.arg for each in function.parameters if each.arg not in arguments):
            scope.names[name] = self.value(_known(function.defaults.get(name)), Scope(function.module))
        if vararg := function.node.args.vararg:
            scope.names.setdefault(vararg.arg, ())
        if isinstance(function.node, ast.Lambda):
            return self.value(function.node.body, scope)
        returned = self._run(function.node.body, scope)
        return returned.value if returned else None

    # ===== statements =====

    def _run(self, body: Sequence[ast.stmt], scope: Scope) -> _Returned | None:
        for statement in body:
            if returned := self._step(statement, scope):
                return returned
        return None

    def _step(self, node: ast.stmt, scope: Scope) -> _Returned | None:
        match node:
            case ast.Return():
                return _Returned(self.value(node.value, scope) if node.value else None)
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name), value=ast.expr()):
                scope.names[name] = self.value(_known(node.value), scope)
            case ast.Assign(targets=[ast.Tuple() as target]):
                scope.names.update(bound(target, self.value(node.value, scope)))
            case ast.If():
                return self._run(node.body if self.value(node.test, scope) else node.orelse, scope)
            case ast.For(orelse=[]):
                return self._repeat(node, scope)
            case ast.Try(finalbody=[]):
                return self._try(node, scope)
            case ast.Raise(exc=ast.expr()):
                raise _exception(_known(node.exc))
            case ast.Pass() | ast.Import() | ast.ImportFrom() | ast.Expr(value=ast.Constant()):
                pass
            case ast.Expr(value=ast.Call(func=call)) if _is_said(call):
                pass
            case _:
                raise Unknown
        return None

    def _repeat(self, node: ast.For, scope: Scope) -> _Returned | None:
        for item in _in_turn(self.value(node.iter, scope)):
            scope.names.update(bound(node.target, item))
            if returned := self._run(node.body, scope):
                return returned
        return None

    def _try(self, node: ast.Try, scope: Scope) -> _Returned | None:
        try:
            returned = self._run(node.body, scope)
        except Unknown:
            raise
        except Exception as error:
            for handler in node.handlers:
                if handler.type is None or isinstance(error, tuple(_classes(handler.type))):
                    return self._run(handler.body, scope)
            raise
        return returned or self._run(node.orelse, scope)


_VIEWS: tuple[type, ...] = (type({}.items()), type({}.keys()), type({}.values()))


def bound(target: ast.expr, value: Value) -> dict[str, Value]:
    """The names of a loop's target, for one turn.

    Raises:
        Unknown: They cannot be told.
    """
    if isinstance(target, ast.Name):
        return {target.id: value}
    if (
        isinstance(target, (ast.Tuple, ast.List))
        and isinstance(value, (tuple, list))
        and len(value) == len(target.elts)
    ):
        parts = [bound(each, part) for each, part in zip(target.elts, value, strict=True)]
        return {name: item for part in parts for name, item in part.items()}
    raise Unknown


def _in_turn(value: Value) -> list[Value]:
    if not isinstance(value, (list, tuple, set, frozenset, dict)) and type(value) not in _VIEWS:
        raise Unknown
    return list(value)


def _items(node: ast.Dict) -> Iterator[tuple[ast.expr | None, ast.expr]]:
    return zip(node.keys, node.values, strict=True)


def _agreed(values: list[Value]) -> Value:
    if any(type(each) is not type(values[0]) or each != values[0] for each in values):
        raise Unknown
    return values[0]


def _known(value: Value) -> Value:
    if value is None:
        raise Unknown
    return value


def _classes(node: ast.expr) -> list[type[BaseException]]:
    names = node.elts if isinstance(node, ast.Tuple) else [node]
    classes = [getattr(builtins, each.id, None) if isinstance(each, ast.Name) else None for each in names]
    return [_known(each if isinstance(each, type) and issubclass(each, BaseException) else None) for each in classes]


def _exception(node: ast.expr) -> BaseException:
    return _classes(node.func if isinstance(node, ast.Call) else node)[0]()


def _is_said(call: ast.expr) -> bool:
    """Whether it is a log line, which gives nothing."""
    if isinstance(call, ast.Name):
        return call.id == "warn"
    is_log = isinstance(call, ast.Attribute) and call.attr in ("debug", "info", "warning", "error", "exception", "warn")
    return is_log and isinstance(call, ast.Attribute) and isinstance(call.value, ast.Name)
