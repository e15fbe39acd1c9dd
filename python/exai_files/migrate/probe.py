"""Run by the tool's own interpreter, as text behind `python -c`: imports modules, and writes down what came of it.

The text has a call of `main` at its end. Nothing of this package is imported there, and as little as can be of anything
else. What modules print goes nowhere, and what they left running is not waited for.
"""

from __future__ import annotations

import importlib
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:  # start-up counts
    from typing import Any


def imported(name: str) -> dict[str, list[str]]:
    """The public names of a module: those that are there, and those of `__all__` that are not."""
    module = importlib.import_module(name)
    listed = getattr(module, "__all__", [])
    inner = {each.rpartition(".")[2] for each in sys.modules if each.rpartition(".")[0] == name}
    public = [each for each in vars(module) if not each.startswith("_") and each not in inner]
    return {
        "names": sorted({*public, *(each for each in listed if hasattr(module, each))}),
        "missing": sorted(each for each in listed if not hasattr(module, each)),
    }


def value(name: str) -> Any:  # noqa: ANN401
    """What a name such as `config.timeouts:TimeoutConfig.LIMIT` stands for."""
    module, _, path = name.partition(":")
    found = importlib.import_module(module)
    for part in path.split("."):
        found = getattr(found, part)
    return found


def is_plain(data: object) -> bool:
    """Whether it is data, of which two can be told to be equal."""
    if isinstance(data, dict):
        return all(is_plain(each) for pair in data.items() for each in pair)
    if isinstance(data, (list, tuple, set, frozenset)):
        return all(is_plain(each) for each in data)
    return data is None or isinstance(data, (str, bytes, int, float, complex, os.PathLike))


def is_same(one: str, other: str) -> bool:
    """Whether two names stand for equal data."""
    first, second = value(one), value(other)
    return type(first) is type(second) and is_plain(first) and bool(first == second)


def is_there(name: str) -> bool:
    """Whether a class has an attribute that not every class has."""
    owner, _, attribute = name.rpartition(".")
    return hasattr(value(owner), attribute) and not hasattr(object, attribute)


def main(result: str, avoided: str, task: dict[str, Any]) -> None:
    """Does the task, writes a literal, and ends."""
    # An installation of the tool itself must not lend what the tree lacks.
    sys.path[:] = [each for each in sys.path if not each or not os.path.realpath(each).startswith(avoided)]
    try:
        answer: dict[str, Any] = {
            "modules": {name: imported(name) for name in task.get("modules", [])},
            "same": [is_same(*pair) for pair in task.get("same", [])],
            "there": [is_there(name) for name in task.get("there", [])],
        }
    except BaseException as error:
        answer = {"error": (type(error).__name__ + ": " + str(error)).partition("\n")[0][:300]}
    with open(result, "w", encoding="utf-8") as file:  # noqa: PTH123  (start-up counts)
        file.write(repr(answer))
    os._exit(0)
