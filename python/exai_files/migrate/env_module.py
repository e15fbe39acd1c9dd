"""Python modules as they are written: where they read the environment, their constants and functions. None is run."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple, TypeAlias

__all__ = ["Function", "FunctionNode", "Module", "Program", "Read"]

FunctionNode: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda

_TRANSPARENT = {"classmethod", "staticmethod", "cache", "lru_cache"}
"""Decorators that leave a function's result as it is."""
_BUILT_IN = {name for kind in (str, bytes, dict, list, set) for name in dir(kind)}


class Read(NamedTuple):
    """One place where the environment is read: `get` gives a default, `item` raises, `in` and `not in` only ask."""

    kind: Literal["get", "item", "in", "not in"]
    key: ast.expr
    default: ast.expr | None = None


@dataclass(frozen=True, eq=False)
class Function:
    """A function or method, without its `self` or `cls`."""

    node: FunctionNode
    module: Module

    @cached_property
    def parameters(self) -> list[ast.arg]:
        arguments = self.node.args
        named = [*arguments.posonlyargs, *arguments.args]
        is_bound = self.is_method and "staticmethod" not in self._decorators
        return [*named[1 if is_bound else 0 :], *arguments.kwonlyargs]

    @cached_property
    def names(self) -> set[str]:
        """Of everything that callers give it."""
        extra = (self.node.args.vararg, self.node.args.kwarg)
        return {each.arg for each in (*self.parameters, *extra) if each}

    @cached_property
    def defaults(self) -> dict[str, ast.expr]:
        arguments = self.node.args
        named = [*arguments.posonlyargs, *arguments.args]
        given = zip(named[len(named) - len(arguments.defaults) :], arguments.defaults, strict=True)
        only = zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
        return {name.arg: value for name, value in (*given, *only) if value}

    @cached_property
    def is_plain(self) -> bool:
        """Whether a call gives what its body returns."""
        if isinstance(self.node, ast.AsyncFunctionDef) or self.node.args.kwarg:
            return False
        inner = (ast.Yield, ast.YieldFrom, ast.Await)
        return self._decorators <= _TRANSPARENT and not any(isinstance(node, inner) for node in ast.walk(self.node))

    @cached_property
    def is_told_by_its_result(self) -> bool:
        """Whether it takes nothing and gives something."""
        returns = (node for node in ast.walk(self.node) if isinstance(node, ast.Return))
        return not self.names and (isinstance(self.node, ast.Lambda) or any(node.value for node in returns))

    @cached_property
    def constants(self) -> dict[str, ast.expr]:
        """Its names that are assigned once."""
        body = [] if isinstance(self.node, ast.Lambda) else self.node.body
        return {name: value for name, value in _assigned_once(body, deep=True).items() if name not in self.names}

    @cached_property
    def loops(self) -> dict[str, list[ast.expr]]:
        """What its loops go over, by the names that they give it."""
        found: dict[str, list[ast.expr]] = defaultdict(list)
        for node in ast.walk(self.node):
            if isinstance(node, (ast.For, ast.comprehension)):
                for each in ast.walk(node.target):
                    if isinstance(each, ast.Name):
                        found[each.id].append(node.iter)
        return found

    @cached_property
    def locals(self) -> set[str]:
        """Names that are its own, or of a function that it is in."""
        written = {node.id for node in ast.walk(self.node) if isinstance(node, ast.Name) and not _is_read(node)}
        outer = self.module.function_of(self.node)
        return written | self.names | (outer.locals if outer else set())

    @property
    def is_method(self) -> bool:
        return isinstance(self.module.parents.get(self.node), ast.ClassDef)

    @property
    def _decorators(self) -> set[str]:
        if isinstance(self.node, ast.Lambda):
            return set()
        bare = (each.func if isinstance(each, ast.Call) else each for each in self.node.decorator_list)
        return {each.attr if isinstance(each, ast.Attribute) else getattr(each, "id", "?") for each in bare}

    def arguments(self, call: ast.Call) -> dict[str, ast.expr]:
        """What a call gives, by parameter; what is starred is not known."""
        given: dict[str, ast.expr] = {}
        positional = [each.arg for each in self.parameters if each not in self.node.args.kwonlyargs]
        for name, value in zip(positional, call.args, strict=False):
            if isinstance(value, ast.Starred):
                break
            given[name] = value
        if self.node.args.vararg:
            rest = call.args[len(positional) :]
            given[self.node.args.vararg.arg] = ast.Tuple(elts=rest, ctx=ast.Load())
        return given | {each.arg: each.value for each in call.keywords if each.arg}


class Module:
    """One parsed file.

    Attributes:
        name: Its path below the tree, for people.
        constants: Names that it assigns once, outside of functions and classes.
        imported: Names that it imports: what they are called there, and the last part of the other's name.
    """

    def __init__(self, name: str, tree: ast.Module) -> None:
        self.name, self.tree = name, tree
        self.nodes = list(ast.walk(tree))
        self.parents = {child: node for node in self.nodes for child in ast.iter_child_nodes(node)}
        self.constants = _assigned_once(tree.body, deep=False)
        self.imported: dict[str, tuple[str, str]] = {}
        self.classes = {node.name for node in self.nodes if isinstance(node, ast.ClassDef)}
        self.functions: dict[str, list[Function]] = defaultdict(list)
        self._by_node: dict[ast.AST, Function] = {}
        self._os, self._environ, self._getenv = {"os"}, set[str](), set[str]()
        for node in self.nodes:
            self._note(node)
        for node in self.nodes:
            self._note_alias(node)
            for name in _written_elsewhere(node):
                self.constants.pop(name, None)
        for name in self.imported:
            self.constants.pop(name, None)

    def _note(self, node: ast.AST) -> None:
        if isinstance(node, ast.Import):
            for each in node.names:
                last = each.name.rpartition(".")[2]
                self.imported[each.asname or each.name] = (last, last)
                self._os |= {each.asname or "os"} if each.name == "os" else set()
        elif isinstance(node, ast.ImportFrom):
            known = {"environ": self._environ, "getenv": self._getenv} if node.module == "os" else {}
            for each in node.names:
                known.get(each.name, set()).add(each.asname or each.name)
                self.imported[each.asname or each.name] = (each.name, (node.module or "").rpartition(".")[2])
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            function = self._by_node[node] = Function(node, self)
            if name := getattr(node, "name", None) or _name_given(self.parents.get(node)):
                self.functions[name].append(function)

    def _note_alias(self, node: ast.AST) -> None:
        """Such as `env = os.environ`, `env = dict(os.environ)`, `get = os.getenv`."""
        if not isinstance(node, ast.Assign) or not (name := _name_given(node)):
            return
        value = _copied(node.value)
        if self.is_environment(value):
            self._environ.add(name)
        elif self._is_getenv(value):
            self._getenv.add(name)

    def is_environment(self, node: ast.AST) -> bool:
        if isinstance(node, ast.Attribute):
            return node.attr == "environ" and isinstance(node.value, ast.Name) and node.value.id in self._os
        return isinstance(node, ast.Name) and node.id in self._environ

    def _is_getenv(self, node: ast.AST) -> bool:
        if not isinstance(node, ast.Attribute):
            return isinstance(node, ast.Name) and node.id in self._getenv
        is_of_os = isinstance(node.value, ast.Name) and node.value.id in self._os
        methods = ("get", "pop", "setdefault")
        return (node.attr == "getenv" and is_of_os) or (node.attr in methods and self.is_environment(node.value))

    def read(self, node: ast.AST) -> Read | None:
        """How the node itself reads the environment."""
        match node:
            case ast.Call() if self._is_getenv(node.func):
                named = {each.arg: each.value for each in node.keywords}
                key = node.args[0] if node.args else named.get("key")
                default = node.args[1] if len(node.args) > 1 else named.get("default")
                return Read("get", key, default) if key else None
            case ast.Subscript(ctx=ast.Load()) if self.is_environment(node.value):
                return Read("item", node.slice)
            case ast.Compare(ops=[ast.In() | ast.NotIn() as asked]) if self.is_environment(node.comparators[0]):
                return Read("in" if isinstance(asked, ast.In) else "not in", node.left)
        return None

    def above(self, node: ast.AST) -> Iterator[ast.AST]:
        """What the node is in, from within."""
        while above := self.parents.get(node):
            yield above
            node = above

    def function_of(self, node: ast.AST) -> Function | None:
        """The innermost function that the node is in."""
        return next((self._by_node[above] for above in self.above(node) if above in self._by_node), None)


class Program:
    """All modules together."""

    def __init__(self, modules: Sequence[Module]) -> None:
        self.modules = modules
        self._functions: dict[str, list[Function]] = defaultdict(list)
        self._constants: dict[str, list[tuple[Module, ast.expr]]] = defaultdict(list)
        self._classes = {name for module in modules for name in module.classes}
        for module in modules:
            for name, functions in module.functions.items():
                self._functions[name] += functions
            for name, value in module.constants.items():
                self._constants[name].append((module, value))

    def named(self, call: ast.Call, module: Module) -> list[Function]:
        """Every function that a call may mean: by the name alone, unless texts and containers have such a method, too."""
        if isinstance(call.func, ast.Attribute) and call.func.attr in _BUILT_IN:
            return self.called(call, module)
        return self._named(call, module)

    def _named(self, call: ast.Call, module: Module) -> list[Function]:
        if isinstance(call.func, ast.Name):
            own = [each for each in module.functions.get(call.func.id, []) if not each.is_method]
            name, _ = module.imported.get(call.func.id, (call.func.id, ""))
            return own or self._functions.get(name, [])
        return self._functions.get(call.func.attr, []) if isinstance(call.func, ast.Attribute) else []

    def called(self, call: ast.Call, module: Module) -> list[Function]:
        """The functions that a call is certain to mean: all those that may be the one."""
        match call.func:
            case ast.Name(id=name) if name in module.imported:
                return [each for each in self._named(call, module) if _is_from(each.module, module.imported[name][1])]
            case ast.Name(id=name):
                return [each for each in module.functions.get(name, []) if not each.is_method]
            case ast.Attribute(value=ast.Name(id=name)) if name in module.imported and name not in self._classes:
                functions = self._named(call, module)
                return [each for each in functions if _is_from(each.module, module.imported[name][0])]
            case ast.Attribute(value=ast.Name(id=name)) if name in ("self", "cls") or name in self._classes:
                return [each for each in self._named(call, module) if each.is_method]
        return []

    def constant(self, name: str, module: Module) -> tuple[Module, ast.expr] | None:
        """What a name outside of functions stands for, where that is certain."""
        if name in module.constants:
            return module, module.constants[name]
        original, place = module.imported.get(name, ("", ""))
        found = [each for each in self._constants.get(original, []) if _is_from(each[0], place)]
        return found[0] if len(found) == 1 else None


def _is_from(module: Module, place: str) -> bool:
    """Whether a module, or a package that it is in, is called so."""
    return not place or place in module.name.removesuffix(".py").split("/")


def _is_read(node: ast.Name) -> bool:
    return isinstance(node.ctx, ast.Load)


def _written_elsewhere(node: ast.AST) -> list[str]:
    """Names outside of functions that functions write, and names that mean something else within a class."""
    if isinstance(node, ast.Global):
        return node.names
    body = [inner for each in node.body for inner in _outside_functions(each)] if isinstance(node, ast.ClassDef) else []
    return [each.id for each in body if isinstance(each, ast.Name) and not _is_read(each)]


def _copied(node: ast.expr) -> ast.expr:
    match node:
        case ast.Call(func=ast.Attribute(value=inner, attr="copy")):
            return inner
        case ast.Call(func=ast.Name(id="dict"), args=[inner]):
            return inner
    return node


def _name_given(node: ast.AST | None) -> str | None:
    if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
        return node.targets[0].id
    return None


def _assigned_once(body: Sequence[ast.stmt], *, deep: bool) -> dict[str, ast.expr]:
    """The values of names that are assigned in one place only."""
    places: dict[str, list[ast.expr | None]] = defaultdict(list)
    nodes = (node for statement in body for node in (ast.walk(statement) if deep else _outside_functions(statement)))
    for node in nodes:
        if isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if len(targets) == 1 and isinstance(targets[0], ast.Name):
                places[targets[0].id] += [node.value, None] if node.value is None else [node.value]
                continue
        if isinstance(node, ast.Name) and not _is_read(node):
            places[node.id].append(None)
    # The target of a plain assignment is met twice: as such, and as a name that is written to.
    return {name: found[0] for name, found in places.items() if len(found) == 2 and found[0] is not None}


def _outside_functions(statement: ast.stmt) -> Iterator[ast.AST]:
    waiting: list[ast.AST] = [statement]
    while waiting:
        node = waiting.pop(0)
        yield node
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)):
            waiting += ast.iter_child_nodes(node)
