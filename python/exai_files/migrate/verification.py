"""Whether modules of the tool still import: each in a process of its own, in the tool's interpreter.

Importing a module runs its code. It gets no variables but those that programs need to run, the tree as working directory,
and a time limit; `src/` is never put on `sys.path`, where its `logging` would shadow the standard one.
"""

from __future__ import annotations

import ast
import contextlib
import os
import signal
import subprocess
import tempfile
import threading
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from exai_files.errors import InvalidRequestError, UnsupportedError

__all__ = ["Imported", "Interpreter", "damage"]

_KEPT = {"APPDATA", "COMSPEC", "HOME", "LANG", "LD_LIBRARY_PATH", "LOCALAPPDATA", "PATH", "PATHEXT", "PYTHONPATH"}
_KEPT |= {"PYTHONUSERBASE", "SYSTEMROOT", "TEMP", "TMP", "TMPDIR", "USERPROFILE", "VIRTUAL_ENV", "WINDIR"}


@dataclass(frozen=True)
class Imported:
    """What came of importing a module.

    Attributes:
        error: Why it failed, or None.
        names: Its public names.
        missing: Names of its `__all__` that it does not have.
    """

    error: str | None
    names: frozenset[str] = frozenset()
    missing: frozenset[str] = frozenset()


def damage(
    before: Mapping[str, Imported],
    after: Mapping[str, Imported],
    dropped: Mapping[str, Collection[str]],
) -> list[str]:
    """What is worse than before, a sentence each.

    Args:
        before: What each module was like.
        after: What it is like now; without those that were meant to go.
        dropped: Names that were meant to go, by edited module; other modules' names are not compared.
    """
    found: list[str] = []
    for name, was in before.items():
        if not was.error and name in after:
            found += _damage(name, was, after[name], dropped.get(name))
    return found


def _damage(name: str, was: Imported, now: Imported, dropped: Collection[str] | None) -> Iterator[str]:
    if now.error:
        yield f"{name} does not import any more: {now.error}"
        return
    if dropped is not None and (lost := was.names - now.names - set(dropped)):
        yield f"{name} has lost {', '.join(sorted(lost))}"
    if unlisted := now.missing - was.missing:
        yield f"{name} lists in __all__ what it does not have: {', '.join(sorted(unlisted))}"


class Interpreter:
    """The tool's Python, run in a tree.

    Args:
        python: The program.
        root: The tree; working directory and first on `sys.path`.
        avoided: The tool's own place, from which nothing is to be imported.
        timeout: For each module, in seconds.
        jobs: How many at a time.

    Raises:
        InvalidRequestError: It cannot be run.
    """

    def __init__(self, python: str, root: Path, avoided: Path, *, timeout: float, jobs: int | None = None) -> None:
        self._python, self._root, self._avoided = python, root, avoided
        self._timeout, self._jobs = timeout, jobs or os.cpu_count() or 1
        self._running: set[subprocess.Popen[bytes]] = set()
        self._probe = Path(__file__).with_name("probe.py").read_text(encoding="utf-8")
        answer = self._answer({})
        if "error" in answer:
            raise InvalidRequestError(
                f"{python} cannot be used: {answer['error']}", hint="--python takes the interpreter that runs the tool"
            )

    def import_all(self, modules: Sequence[str]) -> dict[str, Imported]:
        """Each of the modules, in a process of its own."""
        with self._pool() as pool:
            return dict(zip(modules, pool.map(self._import, modules), strict=True))

    def _import(self, module: str) -> Imported:
        answer = self._answer({"modules": [module]})
        if "error" in answer:
            return Imported(str(answer["error"]).replace(f"{self._root}{os.sep}", ""))
        found = answer["modules"][module]
        return Imported(None, frozenset(found["names"]), frozenset(found["missing"]))

    def compare(
        self, pairs: Sequence[tuple[str, str]], attributes: Sequence[str], variables: Iterable[str]
    ) -> tuple[list[bool], list[bool]]:
        """Which pairs of names stand for equal data, and which attributes there are.

        It is asked twice, the second time with each of the variables set to another number: what comes from the
        environment has to come from the same variable.

        Raises:
            UnsupportedError: They do not import.
        """
        task = {"same": pairs, "there": attributes}
        numbers = {name: str(7 + index) for index, name in enumerate(sorted(variables))}
        plain, varied = self._answer(task), self._answer(task, numbers)
        if "error" in plain:
            raise UnsupportedError(
                f"definitions cannot be compared: {plain['error']}",
                hint="have the modules import without variables that only you have",
            )
        also = plain["same"] if "error" in varied else varied["same"]
        return [one and other for one, other in zip(plain["same"], also, strict=True)], plain["there"]

    # ===== processes =====

    def _answer(self, task: Mapping[str, Any], variables: Mapping[str, str] | None = None) -> dict[str, Any]:
        """What the probe writes, or an error in its place."""
        with tempfile.TemporaryDirectory(prefix="exai-files-", ignore_cleanup_errors=True) as directory:
            result = Path(directory) / "result"
            code = f"{self._probe}\nmain({str(result)!r}, {str(self._avoided)!r}, {task!r})\n"
            failure = self._run([self._python, "-c", code], {**(variables or {}), **self._environment()})
            if failure is None and result.exists():
                answer: dict[str, Any] = ast.literal_eval(result.read_text(encoding="utf-8"))
                return answer
            return {"error": failure or "the process ended too early"}

    def _environment(self) -> dict[str, str]:
        kept = {name: text for name, text in os.environ.items() if name.upper() in _KEPT or name.startswith("LC_")}
        entries = [each for each in kept.pop("PYTHONPATH", "").split(os.pathsep) if each]
        outside = [each for each in entries if not Path(each).resolve().is_relative_to(self._avoided)]
        path = {"PYTHONPATH": os.pathsep.join(outside)} if outside else {}
        return {**kept, **path, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONIOENCODING": "utf-8"}

    def _run(self, command: Sequence[str], environment: Mapping[str, str]) -> str | None:
        """How it failed, in words."""
        options: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
        options["start_new_session"] = os.name == "posix"
        try:
            process = subprocess.Popen(command, cwd=self._root, env=dict(environment), **options)
        except OSError as error:
            return error.strerror or str(error)
        is_late = threading.Event()

        def give_up() -> None:
            is_late.set()
            _kill(process)

        alarm = threading.Timer(self._timeout, give_up)  # not `wait(timeout)`, which looks twenty times a second
        alarm.start()
        self._running.add(process)
        try:
            code = process.wait()
        finally:
            alarm.cancel()
            _kill(process)
            process.wait()
            self._running.discard(process)
        if is_late.is_set():
            return f"no end after {self._timeout:g} s"
        return f"the process ended with code {code}" if code else None

    @contextlib.contextmanager
    def _pool(self) -> Iterator[ThreadPoolExecutor]:
        """Threads that wait for processes; whatever happens, none of these outlives it."""
        pool = ThreadPoolExecutor(self._jobs)
        try:
            yield pool
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in list(self._running):
                _kill(process)
            pool.shutdown()


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Ends a process, and what it has started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if os.name == "posix":
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
