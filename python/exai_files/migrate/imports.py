"""What one Python file refers to: every way in which it can name a module, or a name of one.

Nothing here is imported or run; `tree.py` puts the files of a tree together. Where a file could mean more than one
thing the reading is the careful one: rather a reference too many than a file removed that is needed.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Reference", "Source", "all_statements", "top_level"]

_DOTTED = re.compile(r"[A-Za-z_]\w*(?:\.\w+)*(?::\w+(?:\.\w+)*)?")
_RELATIVE = re.compile(r"\.+\w+(?:\.\w+)*")
_RUN = re.compile(r"(?<!\S)-m\s+([A-Za-z_][\w.]*)")
_IMPORTERS = {"import_module": "importlib.import_module", "__import__": "__import__", "run_module": "runpy.run_module"}


@dataclass(frozen=True)
class Reference:
    """A place in a file that names something.

    Attributes:
        target: Dotted and absolute: a module, or a name below one. For a name made at run time, what it begins with.
        form: The way it is named, such as "from import" or "string".
        bound: What a `from … import` calls it here.
        base: The target's beginning that has to be a module, or else this says nothing new.
        kind: "name"; "star" for all public names; "whole" for the module as a value; "prefix" for names made at run
            time.
    """

    target: str
    line: int
    form: str
    bound: str | None = None
    base: str | None = None
    kind: str = "name"
    statement: ast.ImportFrom | None = None
    is_lazy: bool = False


class Source:
    """A Python file as it is read: text, syntax tree, references.

    Attributes:
        path: Relative to the tree, with slashes.
        module: Its dotted name, or None where it cannot be imported by one.
        error: Why there is no syntax tree, or None.
    """

    def __init__(self, path: str, module: str | None, data: bytes) -> None:
        self.path, self.module = path, module
        self.is_package = path.rpartition("/")[2] == "__init__.py"
        self.tree, self.error, self.encoding = ast.Module([], []), None, "utf-8"
        try:
            self.encoding = tokenize.detect_encoding(io.BytesIO(data).readline)[0]
            self.text = data.decode(self.encoding)
            self.tree = _parsed(data)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            self.text = data.decode("utf-8", "replace")
            self.error = _reason(error)
        nodes = list(ast.walk(self.tree))
        self.loads = {node.id for node in nodes if isinstance(node, ast.Name) and _is_load(node)}
        self.bindings = dict(_bindings(self.tree))
        collected = _References(self, nodes)
        self.references = collected.found
        self.strings = [(node.lineno, text) for node, text in collected.strings] + list(_paths(nodes))

    @classmethod
    def read(cls, root: Path, path: str, module: str | None) -> Source:
        return cls(path, module, (root / path).read_bytes())

    @property
    def package(self) -> str:
        """What a relative import starts from."""
        folder = self.path.rpartition("/")[0]
        return folder.replace("/", ".")

    @property
    def exported(self) -> list[str] | None:
        """What `__all__` lists, as far as it is written out, or None where there is none."""
        nodes = list(all_statements(self.tree))
        return [name for node in nodes for name in all_items(node)] if nodes else None

    def public(self) -> list[str]:
        """The names that a star import takes."""
        return self.exported if self.exported is not None else [n for n in self.bindings if not n.startswith("_")]

    def absolute(self, module: str | None, level: int) -> str:
        """What a relative import means: `level` is the number of dots."""
        if not level:
            return module or ""
        parts = self.package.split(".") if self.package else []
        kept = parts[: max(len(parts) - (level - 1), 0)]
        return ".".join([*kept, *([module] if module else [])])


def _parsed(data: bytes) -> ast.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ast.parse(data)


def _reason(error: BaseException) -> str:
    if isinstance(error, SyntaxError) and error.lineno:
        return f"line {error.lineno}: {error.msg}"
    return str(error).partition("\n")[0] or type(error).__name__


def _is_load(node: ast.Name) -> bool:
    return isinstance(node.ctx, ast.Load)


# ===== statements =====


def top_level(tree: ast.Module) -> Iterator[ast.stmt]:
    """The statements that run at import, also those within `try`, `if` and `with`, without the bodies of classes."""
    for statement, where in _statements(tree.body, ""):
        if where != "in a function":
            yield statement


def _statements(body: list[ast.stmt], where: str) -> Iterator[tuple[ast.stmt, str]]:
    """Each statement, outer ones first, and whether it is in a function or only for type checkers."""
    for statement in body:
        yield statement, where
        if isinstance(statement, ast.ClassDef):
            continue
        inner = where
        if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef)):
            inner = "in a function"
        for field in ("body", "orelse", "finalbody"):
            is_typed = isinstance(statement, ast.If) and field == "body" and "TYPE_CHECKING" in ast.dump(statement.test)
            yield from _statements(getattr(statement, field, []), "for type checkers" if is_typed else inner)
        for handler in [*getattr(statement, "handlers", []), *getattr(statement, "cases", [])]:
            yield from _statements(handler.body, inner)


def _imports(tree: ast.Module, nodes: Iterable[ast.AST]) -> Iterator[tuple[ast.Import | ast.ImportFrom, str]]:
    """All imports; those in classes and their methods too."""
    placed = {id(statement): where for statement, where in _statements(tree.body, "")}
    for node in nodes:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            yield node, placed.get(id(node), "in a function")


def _bindings(tree: ast.Module) -> Iterator[tuple[str, ast.stmt]]:
    """The names that the module has, and what gives each of them."""
    for statement in top_level(tree):
        if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield statement.name, statement
        elif isinstance(statement, (ast.Import, ast.ImportFrom)):
            yield from ((a.asname or a.name.partition(".")[0], statement) for a in statement.names if a.name != "*")
        elif isinstance(statement, (ast.Assign, ast.AnnAssign, ast.AugAssign)):
            for node in ast.walk(statement):
                if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                    yield node.id, statement


def all_statements(tree: ast.Module) -> Iterator[ast.stmt]:
    """The statements that make `__all__`, also `__all__ += …` and `__all__.extend(…)`."""
    for statement in top_level(tree):
        touched: ast.AST | None = None
        if isinstance(statement, ast.Assign):
            touched = statement.targets[0]
        elif isinstance(statement, (ast.AnnAssign, ast.AugAssign)):
            touched = statement.target
        elif isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
            function = statement.value.func
            touched = function.value if isinstance(function, ast.Attribute) else None
        if isinstance(touched, ast.Name) and touched.id == "__all__":
            yield statement


def all_items(statement: ast.stmt) -> Iterator[str]:
    """The names that are written out in it."""
    for node in ast.walk(statement):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


# ===== strings =====


def _strings(nodes: Iterable[ast.AST]) -> Iterator[tuple[ast.Constant, str]]:
    """Every string that is a value: no docstring, and no part of an f-string."""
    parts: set[int] = set()
    for node in nodes:  # outer nodes come first
        if isinstance(node, ast.Expr):
            parts.add(id(node.value))
        elif isinstance(node, ast.JoinedStr):
            parts.update(map(id, node.values))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in parts:
            yield node, node.value


def _paths(nodes: Iterable[ast.AST]) -> Iterator[tuple[int, str]]:
    """Paths that are put together of strings: `root / "config" / "x.py"`, `join(root, "config", "x.py")`."""
    for node in nodes:
        parts: list[ast.expr] = []
        if isinstance(node, ast.Call):
            parts = node.args
        while isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
            parts = [node.right, *parts]
            node = node.left
        texts = [part.value for part in parts if isinstance(part, ast.Constant) and isinstance(part.value, str)]
        if len(texts) > 1:
            yield parts[0].lineno, "/".join(texts)


class _References:
    """Collects the references of a file.

    Attributes:
        found: The references.
        strings: The strings that are values.
    """

    def __init__(self, source: Source, nodes: Sequence[ast.AST]) -> None:
        self._source = source
        self.found: list[Reference] = []
        self.strings = list(_strings(nodes))
        self._modules: dict[str, str] = {}
        """What may be a module here: local name, and its absolute one."""
        self._said: set[int] = set()
        """Nodes that are explained already, as parts of others."""
        for statement, where in _imports(source.tree, nodes):
            if isinstance(statement, ast.Import):
                self._import(statement, where)
            else:
                self._from_import(statement, where)
        for node in nodes:  # outer nodes come first
            if id(node) not in self._said:
                self._value(node)
        for string, text in self.strings:
            if id(string) not in self._said:
                self._string(string.lineno, text)

    def _add(self, target: str, line: int, form: str, **more: object) -> None:
        if target:
            self.found.append(Reference(target, line, form, **more))  # type: ignore[arg-type]

    # ===== import statements =====

    def _import(self, statement: ast.Import, where: str) -> None:
        for alias in statement.names:
            self._add(alias.name, statement.lineno, _form("import", where))
            top = alias.name.partition(".")[0]
            self._modules[alias.asname or top] = alias.name if alias.asname else top

    def _from_import(self, statement: ast.ImportFrom, where: str) -> None:
        module = self._source.absolute(statement.module, statement.level)
        form = _form("relative import" if statement.level else "from import", where)
        more = {"statement": statement, "is_lazy": where == "in a function"}
        for alias in statement.names:
            if alias.name == "*":
                self._add(module, statement.lineno, _form("star import", where), kind="star", **more)
                continue
            target = f"{module}.{alias.name}" if module else alias.name
            self._add(target, alias.lineno, form, bound=alias.asname or alias.name, **more)
            self._modules[alias.asname or alias.name] = target

    # ===== modules as values =====

    def _value(self, node: ast.AST) -> None:
        if isinstance(node, ast.Call):
            self._call(node)
        elif isinstance(node, ast.Attribute):
            known = self._chain(node)
            if known:
                self._add(known[0], node.lineno, "attribute", base=known[1])
        elif isinstance(node, ast.Name) and _is_load(node) and node.id in self._modules:
            target = self._modules[node.id]
            self._add(target, node.lineno, "the module as a value", base=target, kind="whole")

    def _chain(self, node: ast.expr) -> tuple[str, str] | None:
        """`config.timeouts.X` where `config` may be a module, and what that module's name is."""
        parts: list[str] = []
        while isinstance(node, ast.Attribute):
            parts.insert(0, node.attr)
            node = node.value
            self._said.add(id(node))
        base = self._modules.get(node.id) if isinstance(node, ast.Name) else None
        return (".".join([base, *parts]), base) if base else None

    def _call(self, call: ast.Call) -> None:
        called = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
        if called in _IMPORTERS and call.args:
            self._named_import(call, _IMPORTERS[called])
        if called == "reload":
            self._said.update(map(id, call.args))
        for value, name in zip(call.args, call.args[1:]):  # noqa: B905  (the last has none after it)
            if isinstance(name, ast.Constant) and isinstance(name.value, str) and name.value.isidentifier():
                self._named_attribute(value, name.value)

    def _named_attribute(self, value: ast.expr, name: str) -> None:
        """`getattr(config, "X")` and `patch.object(config, "X")` need X, not all of config."""
        known = self._chain(value)
        if known:
            self._said.add(id(value))
            self._add(f"{known[0]}.{name}", value.lineno, "attribute by name", base=known[1])

    # ===== names in strings =====

    def _named_import(self, call: ast.Call, form: str) -> None:
        name = call.args[0]
        if isinstance(name, ast.Constant) and isinstance(name.value, str):
            self._said.add(id(name))
            text = name.value.lstrip(".")
            package = self._package_of(call)
            level = len(name.value) - len(text)
            below = f"{package}.{text}" if level == 1 and package else self._source.absolute(text, level)
            self._add(below, name.lineno, form)
            return
        beginning = _beginning(name)
        text = beginning.lstrip(".")
        if len(text) < len(beginning):
            beginning = f"{self._source.absolute(None, len(beginning) - len(text))}.{text}"
        if beginning:
            self._add(beginning, call.lineno, f"{form} of a name made at run time", kind="prefix")

    def _package_of(self, call: ast.Call) -> str | None:
        given = [*call.args[1:2], *(keyword.value for keyword in call.keywords if keyword.arg == "package")]
        package = given[0].value if given and isinstance(given[0], ast.Constant) else None
        return package if isinstance(package, str) else None

    def _string(self, line: int, text: str) -> None:
        if _RELATIVE.fullmatch(text):
            name = text.lstrip(".")
            self._add(self._source.absolute(name, len(text) - len(name)), line, "string")
        elif _DOTTED.fullmatch(text) and ("." in text or ":" in text):
            self._add(text.replace(":", "."), line, "string")
        else:
            for run in _RUN.findall(text):
                self._add(run, line, "python -m")


def _form(kind: str, where: str) -> str:
    return f"{kind}, {where}" if where else kind


def _beginning(name: ast.expr) -> str:
    """The constant text that a computed string begins with: of f"config.{x}", "config." + x, "config.%s" % x."""
    while isinstance(name, ast.BinOp):
        name = name.left
    if isinstance(name, ast.JoinedStr) and name.values:
        name = name.values[0]
    if isinstance(name, ast.Call) and isinstance(name.func, ast.Attribute) and name.func.attr == "format":
        name = name.func.value
    text = name.value if isinstance(name, ast.Constant) and isinstance(name.value, str) else ""
    return re.split(r"[{%]", text)[0]
