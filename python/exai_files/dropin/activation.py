"""Stands in for the tool's modules in this process only: whoever imports them gets ours, and no file is touched.

The finder runs for a module of the tool the very line that `install` would write over its file. Modules that were
imported before have their names replaced in place; who has taken a name from one of them by then keeps the old object,
and the report says so. Call `activate` first thing.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import InspectLoader, Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

from exai_files.dropin import names, wiring
from exai_files.dropin.names import Place

__all__ = ["activate", "deactivate"]


def activate() -> list[Place]:
    """From now on the tool's modules are ours; what is replaced, and what the tool does not have.

    A second call changes nothing. Only what can be found on `sys.path` is reported; what comes there later is served
    too.
    """
    if _finder not in sys.meta_path:
        sys.meta_path.insert(0, _finder)
    return [*(_stand_in(module, by) for module, by in names.modules().items()), *map(_wire, wiring.PROVIDERS)]


def deactivate() -> None:
    """Takes `activate` back, for tests: modules that others have imported from ours keep what they have."""
    if _finder in sys.meta_path:
        sys.meta_path.remove(_finder)
    for module in [*names.modules(), *wiring.PROVIDERS]:
        loaded = sys.modules.get(module)
        provider = getattr(loaded, wiring.PROVIDERS.get(module, ""), None)
        if provider is not None:
            wiring.unwire(provider)
        if isinstance(getattr(getattr(loaded, "__spec__", None), "loader", None), (_Shim, _Wired)):
            _forget(module)
    while _before:
        replaced, attributes = _before.popitem()
        vars(replaced).clear()
        vars(replaced).update(attributes)


_before: dict[ModuleType, dict[str, Any]] = {}
"""What modules that were there first had."""


class _Finder(MetaPathFinder):
    """Finds what the others find, with another loader."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        by, provider = names.modules().get(fullname), wiring.PROVIDERS.get(fullname)
        if by is None and provider is None:
            return None
        found = next((spec for each in sys.meta_path if (spec := _asked(each, fullname, path, target))), None)
        if found is None or found.loader is None:
            return None
        found.loader = _Shim(found, by) if by is not None else _Wired(found.loader, str(provider))
        return found


_finder = _Finder()


def _asked(finder: Any, *question: Any) -> ModuleSpec | None:
    return None if finder is _finder or not hasattr(finder, "find_spec") else finder.find_spec(*question)


class _Shim(InspectLoader):
    """Runs one line in place of a module's own code."""

    def __init__(self, spec: ModuleSpec, by: str) -> None:
        self._spec, self._by = spec, by

    def get_source(self, fullname: str) -> str:
        return _line(fullname, self._by, self._spec.submodule_search_locations)

    def is_package(self, fullname: str) -> bool:
        return self._spec.submodule_search_locations is not None


class _Wired(Loader):
    """Runs a module's own code, and then wires its class."""

    def __init__(self, loader: Loader, provider: str) -> None:
        self._loader, self._provider = loader, provider

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        wiring.wire(getattr(module, self._provider, type(None)))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)


def _line(module: str, by: str, locations: Sequence[str] | None) -> str:
    inner = [each.rpartition(".") for each in names.modules() if each.startswith(f"{module}.")]
    return names.shim(
        by, sorted(name for package, _, name in inner if PathFinder.find_spec(f"{package}.{name}", locations))
    )


def _stand_in(module: str, by: str) -> Place:
    loaded = sys.modules.get(module)
    if loaded is None:
        return Place(module, by, "replaced" if _located(module) else "missing")
    if loaded in _before or isinstance(getattr(loaded.__spec__, "loader", None), _Shim):
        return Place(module, by, "replaced")
    _before[loaded] = dict(vars(loaded))
    takers = sorted(_takers(loaded))
    exec(_line(module, by, getattr(loaded, "__path__", None)), vars(loaded))
    return Place(module, by, "replaced", f"imported before; the old objects stay in {', '.join(takers) or 'no module'}")


def _takers(loaded: ModuleType) -> set[str]:
    """Modules that have taken a class or function of this one."""
    own = {id(each) for each in vars(loaded).values() if getattr(each, "__module__", None) == loaded.__name__}
    others = [(name, vars(each)) for name, each in list(sys.modules.items()) if isinstance(each, ModuleType)]
    served = names.modules()
    return {
        name
        for name, attributes in others
        if name not in served and any(id(value) in own for value in list(attributes.values()))
    }


def _wire(module: str) -> Place:
    provider, loaded = wiring.PROVIDERS[module], sys.modules.get(module)
    by, method = wiring.by(provider), f"{provider}.upload_file"
    if loaded is None:
        spec = _located(module)
        source = spec.loader.get_data(str(spec.origin)) if spec and hasattr(spec.loader, "get_data") else b""  # type: ignore[union-attr]
        is_there = wiring.has_upload(source, provider)
    else:
        is_there = wiring.wire(getattr(loaded, provider, type(None)))
    return Place(module, by, "replaced" if is_there else "missing", method)


def _located(module: str) -> ModuleSpec | None:
    """Where it would be imported from; nothing is imported for that."""
    found, path = None, None
    parts = module.split(".")
    for end in range(1, len(parts) + 1):
        found = PathFinder.find_spec(".".join(parts[:end]), path)
        if found is None or (found.submodule_search_locations is None and end < len(parts)):
            return None
        path = found.submodule_search_locations
    return found


def _forget(module: str) -> None:
    del sys.modules[module]
    package, _, name = module.rpartition(".")
    vars(sys.modules.get(package, ModuleType(package))).pop(name, None)
