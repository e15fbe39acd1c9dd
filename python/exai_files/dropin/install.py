"""Puts this package in the place of the tool's stub modules, and takes it out again.

Each module becomes one line that re-exports ours; its file is kept as a copy beside it (`.orig`). Copies are the
default, as they need no git, hold what was never committed, and are the very files: renamed, not rewritten, so that
bytes, mode, owner and times come back whatever git's filters would have done. A branch keeps the tree tidy instead.
What was replaced is noted in one file, with SHA-256 before and after, and before anything is touched: an installation
that is cut short by a power failure is undone by `uninstall` as well.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from difflib import unified_diff
from pathlib import Path, PurePosixPath

from exai_files import __version__
from exai_files.dropin import names, originals, wiring
from exai_files.dropin.names import Place, State
from exai_files.dropin.swaps import Swap, beside, swap, write
from exai_files.errors import ConflictError, Error, IntegrityError, InvalidRequestError, NotFoundError

__all__ = ["MANIFEST", "Change", "diff", "install", "plan", "status", "uninstall"]

MANIFEST = ".exai-files-dropin.json"
NEW, OLD = ".exai-files-new", ".exai-files-old"


@dataclass(frozen=True)
class Change:
    """One file of the tool.

    Attributes:
        module: Its name in the tool.
        by: Our module that stands in for it.
        path: From the tool's directory, with slashes.
        here: What the file holds now.
        before: The tool's own content.
        after: What it is to hold.
    """

    module: str
    by: str
    path: str
    here: bytes
    before: bytes
    after: bytes


@dataclass(frozen=True)
class _Entry:
    module: str
    by: str
    before: str
    after: str
    mode: int


@dataclass(frozen=True)
class _Manifest:
    """What was noted, and the originals that there are."""

    version: str
    commit: str | None
    files: dict[str, _Entry]
    kept: dict[str, bytes]

    @classmethod
    def read(cls, root: Path) -> _Manifest | None:
        if (content := _content(root, MANIFEST)) is None:
            return None
        try:
            noted = json.loads(content)
            files = {path: _Entry(**entry) for path, entry in noted["files"].items()}
            version, commit = noted["version"], noted["commit"]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise IntegrityError(f'"{root / MANIFEST}" is damaged; take it from a backup') from error
        for path in files:
            _checked(root, path)
        return cls(version, commit, files, originals.read(root, files, commit))

    def original(self, path: str) -> bytes:
        content = self.kept.get(path)
        if content is None or _sha(content) != self.files[path].before:
            is_gone = "gone" if content is None else "not what it was"
            raise IntegrityError(f'the original of "{path}" is {is_gone}', hint="nothing was touched")
        return content


def plan(root: Path | str) -> list[Change]:
    """What `install` would change; nothing is touched.

    Raises:
        InvalidRequestError: There is no such directory, it is not the tool's, or a file in it is a symlink.
        ConflictError: A file was edited after it was replaced, or something is where its copy would go.
        IntegrityError: An original that is kept is not what it was.
    """
    root = _tool(root)
    return [change for change in _changes(root, _Manifest.read(root)) if change.here != change.after]


def diff(changes: list[Change]) -> str:
    """Changes as one unified diff."""
    return "".join(line for change in changes for line in _diff(change))


def install(root: Path | str, *, keep: originals.Kept = "copies") -> list[Place]:
    """Replaces the tool's modules: all of them, or none. Done again, it changes what another version wrote.

    Args:
        root: The tool's directory, the one that has `src` in it.
        keep: Where the originals are to be: as copies beside the files, or on a git branch.

    Raises:
        Error: As `plan`, and also when something could not be written; everything is as it was then.
    """
    root = _tool(root)
    manifest = _Manifest.read(root)
    changes = _changes(root, manifest)
    todo = [change for change in changes if change.here != change.after]
    if manifest is not None and (manifest.commit is None) != (keep == "copies"):
        raise ConflictError("the originals are kept in the other way already; uninstall first")
    if todo:
        _replace(root, todo, manifest, keep)
    return status(root)


def status(root: Path | str) -> list[Place]:
    """What is in the place of each module that we can stand in for."""
    root = _tool(root)
    manifest = _Manifest.read(root)
    places = [_place(root, manifest, *target) for target in _targets()]
    return [*places, _daemon(root, next(each for each in places if each.module == wiring.LIFECYCLE))]


def uninstall(root: Path | str, *, force: bool = False) -> list[Place]:
    """Puts every original back, byte for byte, or none; nothing of ours is left.

    Args:
        root: The tool's directory.
        force: Files that were edited since are overwritten too.

    Raises:
        NotFoundError: Nothing is installed there.
        ConflictError: Files were edited since; they are named.
        IntegrityError: An original is gone or not what it was; then nothing is touched.
    """
    root = _tool(root)
    manifest = _Manifest.read(root)
    if manifest is None:
        raise NotFoundError(f'exai-files stands in for nothing in "{root}"')
    shas = {path: _sha(here) if (here := _content(root, path)) is not None else None for path in manifest.files}
    replaced = sorted(path for path, sha in shas.items() if sha != manifest.files[path].before)
    edited = [path for path in replaced if shas[path] not in (None, manifest.files[path].after)]
    if edited and not force:
        raise ConflictError(f"edited after they were replaced: {', '.join(edited)}", hint="--force overwrites them")
    _put_back(root, manifest, replaced)
    _clean(root, manifest)
    return status(root)


# ===== what is to be done =====


def _targets() -> Iterator[tuple[str, str]]:
    yield from names.modules().items()
    yield from ((module, wiring.by(provider)) for module, provider in wiring.PROVIDERS.items())


def _changes(root: Path, manifest: _Manifest | None) -> list[Change]:
    found = [(module, by, path) for module, by in _targets() if (path := _find(root, module))]
    if not found:
        raise InvalidRequestError(
            f'"{root}" has none of the modules; give the directory that has the tool\'s src in it'
        )
    gone = [path for path in (manifest.files if manifest else ()) if not (root / path).exists()]
    if gone:
        raise ConflictError(
            f"gone since they were replaced: {', '.join(gone)}", hint="uninstall puts the originals back"
        )
    changes = [_change(root, manifest, *each) for each in found]
    return [change for change in changes if change is not None]


def _change(root: Path, manifest: _Manifest | None, module: str, by: str, path: str) -> Change | None:
    here = _checked(root, path).read_bytes()
    before = _original(root, manifest, path, here)
    after = _after(root, module, by, before)
    return None if after is None else Change(module, by, path, here, before, after)


def _after(root: Path, module: str, by: str, before: bytes) -> bytes | None:
    """What stands in for a module, with its own line ends; None for a class without the method."""
    provider = wiring.PROVIDERS.get(module)
    if provider is not None:
        return wiring.wired(before, provider) if wiring.has_upload(before, provider) else None
    inner = [each for each in names.modules() if each.rpartition(".")[0] == module and _find(root, each)]
    line = names.shim(by, sorted(each.rpartition(".")[2] for each in inner)).encode()
    return line.replace(b"\n", b"\r\n") if b"\r\n" in before else line


def _original(root: Path, manifest: _Manifest | None, path: str, here: bytes) -> bytes:
    entry = manifest.files.get(path) if manifest else None
    if manifest is None or entry is None:
        if beside(root / path, originals.SUFFIX).exists():
            raise ConflictError(f'"{path}{originals.SUFFIX}" is in the way; move it elsewhere, or delete it')
        return here
    if _sha(here) == entry.before:
        return here
    if _sha(here) != entry.after:
        raise ConflictError(f'"{path}" was edited after it was replaced; uninstall first')
    return manifest.original(path)


# ===== doing it =====


def _replace(root: Path, todo: list[Change], manifest: _Manifest | None, keep: originals.Kept) -> None:
    modes = {change.path: (root / change.path).stat().st_mode & 0o7777 for change in todo}
    commit = None
    if keep == "branch":
        kept = {change.path: change.before for change in todo}
        commit = originals.commit(root, kept, modes, manifest.commit if manifest else None)
    entries = {
        change.path: _Entry(change.module, change.by, _sha(change.before), _sha(change.after), modes[change.path])
        for change in todo
    }
    files = {**(manifest.files if manifest else {}), **entries}
    noted = {"schema": 1, "version": __version__, "commit": commit, "files": {k: asdict(v) for k, v in files.items()}}
    # The note comes first, and so whatever is cut short after it can be undone.
    swaps = [_swap(root, MANIFEST, OLD), *(_swap(root, each.path, _aside(each, keep)) for each in todo)]
    try:
        write(swaps[0].new, (json.dumps(noted, indent=1) + "\n").encode())
        for change, each in zip(todo, swaps[1:], strict=True):
            write(each.new, change.after, each.path.stat())
        swap(swaps)
    except BaseException as error:
        _forget(each.new for each in swaps)
        if commit is not None:
            originals.drop(root, commit, manifest.commit if manifest else None)
        if isinstance(error, OSError):
            raise Error(f'cannot write in "{root}": {error.strerror}; everything is as it was') from error
        raise
    _forget(each.old for each in swaps if each.old.name.endswith(OLD))


def _aside(change: Change, keep: originals.Kept) -> str:
    """The suffix that a file goes under: only the tool's own ones are kept."""
    return originals.SUFFIX if keep == "copies" and change.here == change.before else OLD


def _swap(root: Path, path: str, old: str) -> Swap:
    return Swap(root / path, beside(root / path, NEW), beside(root / path, old))


def _put_back(root: Path, manifest: _Manifest, replaced: list[str]) -> None:
    contents = {path: manifest.original(path) for path in replaced}
    swaps = [_swap(root, path, OLD) for path in replaced]
    if manifest.commit is None:
        swap([Swap(each.path, beside(each.path, originals.SUFFIX), each.old) for each in swaps])
        return
    try:
        for path, each in zip(replaced, swaps, strict=True):
            write(each.new, contents[path])
            each.new.chmod(manifest.files[path].mode)
        swap(swaps)
    except BaseException as error:
        _forget(each.new for each in swaps)
        if isinstance(error, OSError):
            raise Error(f'cannot write in "{root}": {error.strerror}; everything is as it was') from error
        raise


def _clean(root: Path, manifest: _Manifest) -> None:
    """What an uninstalled tool does not need: the note is last, so that this can be done again."""
    _forget(beside(root / path, suffix) for path in [MANIFEST, *manifest.files] for suffix in (NEW, OLD))
    if manifest.commit is not None:
        originals.drop(root, manifest.commit)
    for path, entry in manifest.files.items():
        copy = beside(root / path, originals.SUFFIX)
        if manifest.commit is None and copy.is_file() and _sha(copy.read_bytes()) == entry.before:
            copy.unlink()
    (root / MANIFEST).unlink()


def _forget(paths: Iterable[Path]) -> None:
    for path in paths:
        if path.is_file() or path.is_symlink():
            path.unlink()


# ===== what is there =====


def _tool(root: Path | str) -> Path:
    root = Path(root)
    if not root.is_dir():
        raise InvalidRequestError(f'"{root}" is no directory; give the one that has the tool\'s src in it')
    return root.resolve()


def _find(root: Path, module: str) -> str | None:
    path = PurePosixPath(*module.split("."))
    places = (path / "__init__.py", path.with_suffix(".py"))
    return next((str(each) for each in places if (root / each).exists() or (root / each).is_symlink()), None)


def _checked(root: Path, path: str) -> Path:
    """The file, if it is one and in the tool's directory."""
    file = root / path
    if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts or file.resolve() != file:
        raise InvalidRequestError(f'"{path}" leads elsewhere, to "{file.resolve()}"; only plain files are replaced')
    if file.exists() and not file.is_file():
        raise InvalidRequestError(f'"{path}" is no plain file')
    return file


def _content(root: Path, path: str) -> bytes | None:
    file = _checked(root, path)
    return file.read_bytes() if file.exists() else None


def _sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _place(root: Path, manifest: _Manifest | None, module: str, by: str) -> Place:
    path = _find(root, module)
    here = None if path is None else _content(root, path)
    provider = wiring.PROVIDERS.get(module)
    if path is None or here is None:
        return Place(module, by, "missing")
    wired = f"{provider}.upload_file" if provider else ""
    if manifest is None or path not in manifest.files:
        is_there = provider is None or wiring.has_upload(here, provider)
        return Place(module, by, "original" if is_there else "missing", wired)
    state, remark = _state(root, manifest, module, by, path, here)
    return Place(module, by, state, remark or wired)


def _state(root: Path, manifest: _Manifest, module: str, by: str, path: str, here: bytes) -> tuple[State, str]:
    entry = manifest.files[path]
    if _sha(here) == entry.before:
        return "original", ""
    if _sha(here) != entry.after:
        return "changed since", ""
    original = manifest.kept.get(path)
    if original is None or _sha(original) != entry.before:
        return "replaced", "its original is gone"
    if here != _after(root, module, by, original):
        return "other version", manifest.version
    return "replaced", ""


def _daemon(root: Path, lifecycle: Place) -> Place:
    """The daemon is wired by the module that it imports, if it does."""
    content = _content(root, wiring.DAEMON) if (root / wiring.DAEMON).exists() else None
    if content is None or not wiring.is_daemon(content):
        return Place(wiring.DAEMON, lifecycle.by, "missing", "starts no FileLifecycleManager")
    return Place(wiring.DAEMON, lifecycle.by, lifecycle.state)


def _diff(change: Change) -> Iterator[str]:
    before, after = (
        re.findall(r"[^\n]*\n|[^\n]+", text.decode(errors="replace")) for text in (change.here, change.after)
    )
    for line in unified_diff(before, after, f"a/{change.path}", f"b/{change.path}"):
        yield line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n"
