"""Which keys a Python program reads, and where: through functions of its own, loops and names put together, too."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from exai_files.migrate.env_evaluator import Evaluator, Scope, Unknown, bound
from exai_files.migrate.env_module import Function, Module, Program

__all__ = ["PythonRead", "Unfollowed", "python_reads"]

KeyName: TypeAlias = str | re.Pattern[str] | None
"""The name of a key, or what it looks like, or nothing that is known of it."""

_MOST_TURNS = 500
_MOST_CALLS = 300


@dataclass(frozen=True)
class PythonRead:
    """One place, for one key.

    Attributes:
        levels: The expressions that give what is read, the outermost first; each tells more than the next.
        function: What it is in, where that can be called without arguments.
    """

    program: Program = field(repr=False)
    module: Module = field(repr=False)
    line: int
    key: str
    levels: tuple[ast.expr, ...] = field(repr=False)
    scope: Scope = field(repr=False)
    function: Function | None = field(repr=False)

    @property
    def place(self) -> str:
        return f"{self.module.name}:{self.line}"

    def outcomes(self, *environments: Mapping[str, str]) -> list[object]:
        """What the program gets in each environment: by the outermost expression that can be followed in all."""
        evaluators = [Evaluator(self.program, each) for each in environments]
        for level in (self.function, *self.levels):
            try:
                if isinstance(level, Function):
                    return [each.outcome_of(level) for each in evaluators]
                if level is not None:
                    return [each.outcome(level, self.scope) for each in evaluators]
            except Unknown:
                continue
        return [each.get(self.key) for each in environments]


class Unfollowed(NamedTuple):
    """A place that reads keys whose names are not known.

    Attributes:
        pattern: What the names look like; None where they may be any.
    """

    module: Module
    line: int
    pattern: re.Pattern[str] | None


def python_reads(program: Program) -> tuple[list[PythonRead], list[Unfollowed], dict[Module, set[ast.AST]]]:
    """Every read; those that are not followed; and the constants that are names in reads, by module."""
    finder = _Finder(program)
    for module in program.modules:
        for node in module.nodes:
            if isinstance(node, (ast.Call, ast.Subscript, ast.Compare)):
                finder.look_at(node, module)
            elif isinstance(node, (ast.For, ast.comprehension)):
                finder.look_at_loop(node, module)
    return finder.reads, finder.unfollowed, finder.names


class _Finder:
    def __init__(self, program: Program) -> None:
        self._program = program
        self._nothing = Evaluator(program, None)
        self._parameters = _key_parameters(program)
        self._found: dict[tuple[Function, str], list[KeyName]] = {}
        self._within: dict[Function, list[ast.expr]] = {}
        self.reads: list[PythonRead] = []
        self.unfollowed: list[Unfollowed] = []
        self.names: dict[Module, set[ast.AST]] = {module: set() for module in program.modules}

    def look_at(self, node: ast.expr, module: Module) -> None:
        is_reader = isinstance(node, ast.Call) and any(
            each in self._parameters for each in self._program.named(node, module)
        )
        if not is_reader and not module.read(node):
            return
        function = module.function_of(node)
        for scope in self._turns(node, Scope(module, {}, function)):
            for relevant, keys in self._keys(node, scope):
                if function and _used(relevant, function) & self._parameters.get(function, set()):
                    continue  # whoever calls the function says which key it is
                for key in keys:
                    self._add(node, scope, key, relevant)

    def _add(self, node: ast.expr, scope: Scope, key: KeyName, relevant: list[ast.expr]) -> None:
        if not isinstance(key, str):
            self.unfollowed.append(Unfollowed(scope.module, node.lineno, key))
            return
        sources = [*relevant, *(items for _, items in _loops(node, scope.module))]
        self.names[scope.module] |= {each for each in _constants(sources, scope) if each.value == key}
        whole = scope.function if scope.function and scope.function.is_told_by_its_result else None
        levels = tuple(_levels(node, scope.module))
        self.reads.append(PythonRead(self._program, scope.module, node.lineno, key, levels, scope, whole))

    # ===== names of keys =====

    def _keys(self, node: ast.expr, scope: Scope) -> Iterator[tuple[list[ast.expr], list[KeyName]]]:
        """What the names depend on, and the names, for each way that the node may read."""
        if read := scope.module.read(node):
            yield [read.key], [self._name(read.key, scope)]
        elif isinstance(node, ast.Call):
            for function in self._program.named(node, scope.module):
                if function in self._parameters:
                    given = self._relevant(function, node)
                    yield list(given.values()), self._names_within(function, self._evaluated(given, scope))

    def _relevant(self, function: Function, call: ast.Call) -> dict[str, ast.expr]:
        """Of what a call gives to a function, what says which keys are read."""
        parameters = self._parameters.get(function, set())
        return {name: value for name, value in function.arguments(call).items() if name in parameters}

    def _evaluated(self, given: Mapping[str, ast.expr], scope: Scope) -> dict[str, object]:
        values: dict[str, object] = {}
        for name, node in given.items():
            with suppress(Unknown):
                values[name] = self._nothing.told(node, scope)
        return values

    def _names_within(self, function: Function, given: dict[str, object]) -> list[KeyName]:
        """The keys that are read when a function is called so, by it or further on, as far as they depend on the call."""
        state = (function, repr(given))
        if state not in self._found:
            self._found[state] = list(self._names_by_calls(function, given))
        return self._found[state]

    def _names_by_calls(self, function: Function, given: dict[str, object]) -> Iterable[KeyName]:
        found: dict[KeyName, None] = {}
        waiting, seen = [(function, given)], set[tuple[Function, str]]()
        while waiting:
            function, given = waiting.pop()
            if (function, repr(given)) in seen:
                continue
            seen.add((function, repr(given)))
            if len(seen) > _MOST_CALLS:
                return [None]
            for node, scope in self._reading(function, given):
                if read := scope.module.read(node):
                    found[self._name(read.key, scope)] = None
                elif isinstance(node, ast.Call):
                    inner = [each for each in self._program.named(node, scope.module) if each in self._parameters]
                    waiting += [(each, self._evaluated(self._relevant(each, node), scope)) for each in inner]
        return found

    def _reading(self, function: Function, given: dict[str, object]) -> Iterator[tuple[ast.expr, Scope]]:
        """Where a function that is called so reads by its parameters, and what the names stand for there."""
        parameters = self._parameters.get(function, set()) - given.keys()
        defaults = {name: node for name, node in function.defaults.items() if name in parameters}
        values = {**self._evaluated(defaults, Scope(function.module)), **given}
        for node in self._readers_within(function):
            for scope in self._turns(node, Scope(function.module, dict(values), function)):
                yield node, scope

    def _readers_within(self, function: Function) -> list[ast.expr]:
        """Where it reads keys that depend on its parameters, itself or through another function."""
        if function not in self._within:
            self._within[function] = [node for node in _expressions(function) if self._is_reader(node, function)]
        return self._within[function]

    def _is_reader(self, node: ast.expr, function: Function) -> bool:
        if read := function.module.read(node):
            return bool(_used([read.key], function))
        if not isinstance(node, ast.Call):
            return False
        called = (each for each in self._program.named(node, function.module) if each in self._parameters)
        return any(_used(self._relevant(each, node).values(), function) for each in called)

    def _name(self, node: ast.expr, scope: Scope) -> KeyName:
        """The name, or what it looks like where it is put together."""
        with suppress(Unknown):
            value = self._nothing.told(node, scope)
            if isinstance(value, str):
                return value
        text = self._looks(node, scope)
        return re.compile(text) if re.search(r"\w", text) else None

    def _looks(self, node: ast.expr, scope: Scope) -> str:
        with suppress(Unknown):
            return re.escape(str(self._nothing.told(node, scope)))
        match node:
            case ast.JoinedStr():
                return "".join(self._looks(each, scope) for each in node.values)
            case ast.FormattedValue():
                return self._looks(node.value, scope)
            case ast.BinOp(op=ast.Add()):
                return self._looks(node.left, scope) + self._looks(node.right, scope)
            case ast.BinOp(op=ast.Mod(), left=ast.Constant(value=str(text))):
                return ".*".join(map(re.escape, re.split(r"%\w", text)))
            case ast.Call(func=ast.Attribute(attr="format", value=ast.Constant(value=str(text)))):
                return ".*".join(map(re.escape, re.split(r"\{[^{}]*\}", text)))
            case ast.Call(func=ast.Attribute(attr="upper", value=inner)):
                return self._looks(inner, scope).upper()
            case ast.IfExp():
                return f"(?:{self._looks(node.body, scope)}|{self._looks(node.orelse, scope)})"
            case ast.Subscript(value=table):
                return self._looks_of_table(table, scope)
            case ast.Name(id=name) if scope.function and name not in scope.names and name in scope.function.constants:
                return self._looks(scope.function.constants[name], scope)
        return ".*"

    def _looks_of_table(self, node: ast.expr, scope: Scope) -> str:
        with suppress(Unknown):
            table = self._nothing.told(node, scope)
            values = table.values() if isinstance(table, dict) else table
            if values and all(isinstance(each, str) for each in values):
                return f"(?:{'|'.join(map(re.escape, values))})"
        return ".*"

    # ===== loops =====

    def _turns(self, node: ast.AST, scope: Scope) -> list[Scope]:
        """The scope in each turn of the loops that the node is in, as far as they can be told."""
        scopes = [scope]
        for target, items in _loops(node, scope.module):
            try:
                turns = [bound(target, item) for item in self._nothing.items(items, scope)]
            except Unknown:
                continue
            if 0 < len(turns) * len(scopes) <= _MOST_TURNS:
                scopes = [each.with_names({**turn, **each.names}) for each in scopes for turn in turns]
        return scopes

    def look_at_loop(self, node: ast.For | ast.comprehension, module: Module) -> None:
        """Over the whole environment: what it does with each key is not followed."""
        if not module.is_environment(_viewed(node.iter)):
            return
        function = module.function_of(node.iter)
        place = function.node if function else node if isinstance(node, ast.For) else module.parents[node]
        texts = [_prefix(each) for each in ast.walk(place)]
        prefixes: list[re.Pattern[str] | None] = [re.compile(re.escape(text) + ".*") for text in texts if text]
        self.unfollowed += [Unfollowed(module, node.iter.lineno, each) for each in prefixes or [None]]


def _key_parameters(program: Program) -> dict[Function, set[str]]:
    """Of functions that read the environment: the parameters that say which key."""
    found: dict[Function, set[str]] = {}
    calls: list[tuple[ast.Call, Module, Function]] = []
    for module in program.modules:
        for node in module.nodes:
            function = module.function_of(node) if isinstance(node, (ast.Call, ast.Subscript, ast.Compare)) else None
            if function is None:
                continue
            if (read := module.read(node)) and (used := _used([read.key], function)):
                found.setdefault(function, set()).update(used)
            elif isinstance(node, ast.Call):
                calls.append((node, module, function))
    is_growing = True
    while is_growing:
        is_growing = False
        for call, module, function in calls:
            for called in program.named(call, module):
                given = called.arguments(call) if called in found else {}
                used = _used([value for name, value in given.items() if name in found[called]], function)
                if not used <= found.get(function, set()):
                    found.setdefault(function, set()).update(used)
                    is_growing = True
    return found


def _used(nodes: Iterable[ast.expr], function: Function) -> set[str]:
    """The parameters that expressions depend on, also by names that are assigned once and by loops."""
    waiting, seen = list(nodes), set[str]()
    while waiting:
        for each in ast.walk(waiting.pop()):
            if isinstance(each, ast.Name) and each.id not in seen:
                seen.add(each.id)
                waiting += [function.constants[each.id]] if each.id in function.constants else []
                waiting += function.loops.get(each.id, [])
    return seen & function.names


def _constants(nodes: Iterable[ast.expr], scope: Scope) -> Iterator[ast.Constant]:
    """Those in the expressions, also by names that are assigned once."""
    known = {**scope.module.constants, **(scope.function.constants if scope.function else {})}
    waiting, seen = list(nodes), set[str]()
    while waiting:
        for each in ast.walk(waiting.pop()):
            if isinstance(each, ast.Constant):
                yield each
            elif isinstance(each, ast.Name) and each.id in known and each.id not in seen:
                seen.add(each.id)
                waiting.append(known[each.id])


def _expressions(function: Function) -> Iterator[ast.expr]:
    return (node for node in ast.walk(function.node) if isinstance(node, ast.expr))


def _loops(node: ast.AST, module: Module) -> Iterator[tuple[ast.expr, ast.expr]]:
    """Target and iterable of each loop around a node, within its function."""
    inner = node
    for above in module.above(node):
        if isinstance(above, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            return
        if isinstance(above, ast.For) and inner is not above.iter:
            yield above.target, above.iter
        if isinstance(above, (ast.ListComp, ast.SetComp, ast.GeneratorExp, ast.DictComp)):
            for each in above.generators:
                if inner is not each:
                    yield each.target, each.iter
        inner = above


def _levels(node: ast.expr, module: Module) -> list[ast.expr]:
    """The expressions around a node, the outermost first; within one turn of a loop."""
    levels = [node]
    for above in module.above(node):
        if not isinstance(above, ast.expr) or isinstance(above, (ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp)):
            if isinstance(above, (ast.If, ast.While)) and above.test is levels[-1]:
                levels.append(ast.UnaryOp(op=ast.Not(), operand=levels[-1]))
            break
        levels.append(above)
    return levels[::-1]


def _viewed(node: ast.expr) -> ast.expr:
    match node:
        case ast.Call(func=ast.Attribute(value=inner, attr="items" | "keys")):
            return inner
    return node


def _prefix(node: ast.AST) -> str | None:
    match node:
        case ast.Call(func=ast.Attribute(attr="startswith"), args=[ast.Constant(value=str(text))]):
            return text
    return None
