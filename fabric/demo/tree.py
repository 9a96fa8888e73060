"""A snapshot of the Python files under a path, and its index: which file is which module, what it
imports, and whether Python parses it.

Analysers work on the snapshot, never on the files themselves. INDEXER builds the index; two agents
wait for it: DEAD_CODE gives vulture only files that parse, as one that does not would end it;
IMPORTS finds the cycles.

Nothing in a tree makes it raise, hang or run for ever. Names in the snapshot are printable, so that
whatever an analyser writes about a file can be found again.
"""

from __future__ import annotations

import ast
import os
import stat
import tomllib
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from graphlib import CycleError, TopologicalSorter
from itertools import accumulate, takewhile
from pathlib import Path

import msgspec

from fabric.wire.stored import printable

#: Bytes of one file. Larger files are generated tables: each would hold a reviewer up for seconds.
FILE_BYTES_MAX = 1_000_000

#: Files and bytes of one review, and directories that are searched for them.
FILES_MAX, TREE_BYTES_MAX, DIRECTORIES_MAX = 5_000, 64_000_000, 20_000

#: Skipped files and directories that are named one by one; the rest is counted.
SKIPPED_NAMED_MAX = 200

#: Build output and other people's code: skipped, and reported as skipped.
_FOREIGN_DIRECTORIES = frozenset({"node_modules", "site-packages", "build"})

#: Cycles that are reported. One tangle can hold any number of them.
CYCLES_MAX = 20

#: Syntax trees deeper than this are left out of the index: analysers that walk a tree by recursion
#: would fail on the file.
DEPTH_MAX = 150

_FILES, _MANIFEST = "tree", "tree.json"


class Skipped(msgspec.Struct, frozen=True):
    """Something under the path that is not reviewed, and why."""

    path: str
    reason: str


class Tree(msgspec.Struct, frozen=True):
    """A snapshot: its files in a stable order, relative to `folder`, and what was left out.

    `package` is the dotted name of the package that the reviewed directory is, or lies in ("" for
    none): files under it import each other by that name. `line_length` is what the project's
    settings for ruff say; 0 if they say nothing.
    """

    folder: str
    package: str
    files: tuple[str, ...]
    skipped: tuple[Skipped, ...] = ()
    line_length: int = 0

    def read(self, path: str) -> bytes:
        """Return the bytes of a file."""
        return Path(self.folder, path).read_bytes()

    def lines(self, path: str) -> list[str]:
        """Return the lines of a file, with a replacement for what is not UTF-8."""
        return _lines(self.folder, path)


@lru_cache(maxsize=4)  # findings of one file come one after the other, by the thousand
def _lines(folder: str, path: str) -> list[str]:
    return Path(folder, path).read_bytes().decode("utf-8", "replace").splitlines()


def take_snapshot(path: str, scratch: Path) -> Tree:
    """Copy the .py files under `path`, a directory or one file of any name, into `scratch`.

    Hidden directories, caches, virtual environments, `node_modules` and `build` are not entered,
    symbolic links below `path` not followed, and files that are too large or over a limit are named
    in `skipped`. Raises OSError when `path` itself cannot be read.
    """
    root = Path(path).resolve(strict=True)
    if root.is_dir():
        os.scandir(root).close()
    elif not root.is_file():
        raise FileNotFoundError(f"{printable(path)} is neither a file nor a directory")
    home = root if root.is_dir() else root.parent
    folder = scratch.resolve() / _FILES
    folder.mkdir(parents=True)
    walk = _Walk(home, folder)
    walk.copy(root)
    skipped = walk.skipped[:SKIPPED_NAMED_MAX]
    if unnamed := len(walk.skipped) - len(skipped):
        skipped.append(Skipped("…", f"and {unnamed:,} more"))
    files = os.fspath(folder), _package(home), tuple(walk.files)
    tree = Tree(*files, tuple(skipped), _line_length(home))
    (scratch / _MANIFEST).write_bytes(msgspec.json.encode(tree))
    return tree


def open_snapshot(scratch: Path) -> Tree:
    """Return the snapshot in a folder."""
    return msgspec.json.decode((scratch / _MANIFEST).read_bytes(), type=Tree)


class _Walk:
    """One walk over a tree: the files that it has copied, by printable name, and the rest."""

    def __init__(self, home: Path, folder: Path) -> None:
        self._home, self._folder = os.fspath(home), folder
        self.files: dict[str, None] = {}
        self.skipped: list[Skipped] = []

    def copy(self, root: Path) -> None:
        """Copy what is under `root`: depth first, names in order, without recursion."""
        limits = {"files": FILES_MAX, "bytes": TREE_BYTES_MAX, "directories": DIRECTORIES_MAX}
        found: Counter[str] = Counter()
        pending = [(os.fspath(root), root.is_dir())]
        while pending:
            location, is_directory = pending.pop()
            try:
                data = b"" if is_directory else _load(location)
                found["directories" if is_directory else "files"] += 1
                found["bytes"] += len(data)
                if over := [f"{limits[one]:,} {one}" for one in limits if found[one] > limits[one]]:
                    reason = f"limit of {over[0]} reached here; nothing after it was read"
                    self.skipped.insert(0, Skipped(self._name(location), reason))
                    break
                if is_directory:
                    pending += reversed(list(self._entries(location)))
                else:
                    self._write(self._name(location), data)
            except (OSError, ValueError) as error:
                self._skip(location, f"cannot be read: {getattr(error, 'strerror', error)}")

    def _write(self, name: str, data: bytes) -> None:
        if name in self.files:
            raise ValueError("its printable name is that of another file")
        target = self._folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
        self.files[name] = None

    def _entries(self, location: str) -> Iterator[tuple[str, bool]]:
        """Yield the subdirectories and files of a directory that are to be read."""
        with os.scandir(location) as found:
            entries = sorted(found, key=lambda entry: entry.name)
        if location != self._home and any(entry.name == "pyvenv.cfg" for entry in entries):
            return self._skip(location, "a virtual environment")
        for entry in entries:
            is_directory = entry.is_dir(follow_symlinks=False)
            if not is_directory and not entry.name.endswith(".py"):
                continue
            if entry.is_symlink():
                self._skip(entry.path, "a symbolic link")
            elif is_directory and entry.name in _FOREIGN_DIRECTORIES:
                self._skip(entry.path, "a directory of build output or of other people's code")
            elif not is_directory or not (entry.name[0] == "." or entry.name == "__pycache__"):
                yield entry.path, is_directory

    def _name(self, location: str) -> str:
        return printable(os.path.relpath(location, self._home))

    def _skip(self, location: str, reason: str) -> None:
        self.skipped.append(Skipped(self._name(location), reason))


def _load(location: str) -> bytes:
    """Return a file's bytes. Raises OSError, and ValueError for a device or too large a file."""
    # Opened without waiting and without following a link, and checked after opening: since it was
    # listed, somebody may have put a pipe or a device in the file's place.
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(location, flags), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ValueError("not a regular file")
        data = file.read(FILE_BYTES_MAX + 1)
    if len(data) > FILE_BYTES_MAX:
        raise ValueError(f"more than {FILE_BYTES_MAX:,} bytes")
    return data


def _package(home: Path) -> str:
    folders = (home, *home.parents)
    packages = takewhile(lambda folder: (folder / "__init__.py").is_file(), folders)
    names = takewhile(str.isidentifier, (folder.name for folder in packages))
    return ".".join(reversed(list(names)))


def _line_length(home: Path) -> int:
    """Return the line length in the nearest pyproject.toml; 0 when it says none."""
    settings = (folder / "pyproject.toml" for folder in (home, *home.parents))
    nearest = next((path for path in settings if path.is_file()), Path())
    try:
        length = tomllib.loads(_load(os.fspath(nearest)).decode())["tool"]["ruff"]["line-length"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return 0
    return length if isinstance(length, int) and 1 <= length <= 320 else 0


class Module(msgspec.Struct, frozen=True):
    """One file. `imports` are the files that loading it imports → the line; `problem` is why Python
    does not parse it, at `line`, and `rule` the rule that this breaks.
    """

    path: str
    name: str
    imports: dict[str, int] = {}
    problem: str = ""
    rule: str = ""
    line: int = 0


def build_index(tree: Tree) -> list[Module]:
    """Return the index of a snapshot: a module for each file."""
    names = {_name(path, tree.package): path for path in tree.files}
    return [_module(tree, path, names) for path in tree.files]


def read_index(file: Path) -> list[Module]:
    """Return the index in a file."""
    return msgspec.json.decode(file.read_bytes(), type=list[Module])


def cycles(index: Sequence[Module]) -> list[tuple[Module, ...]]:
    """Return cycles of imports, each from its first module in alphabetical order on."""
    modules = {module.path: module for module in index}
    graph = {path: set(module.imports) - {path} for path, module in modules.items()}
    found: list[tuple[Module, ...]] = []
    while len(found) < CYCLES_MAX:
        try:
            TopologicalSorter(graph).prepare()
            break
        except CycleError as error:
            # Each node of the cycle is imported by the next one, and the first one comes last too.
            path: list[str] = error.args[1][::-1][:-1]
            start = path.index(min(path))
            path = path[start:] + path[:start]
            found.append(tuple(modules[one] for one in path))
            graph[path[0]].discard(path[1])
    return found


def _name(path: str, package: str) -> str:
    """Return the dotted name of a file under a package: `a/b/__init__.py` is `a.b`."""
    parts = f"/{path.removesuffix('.py')}".removesuffix("/__init__").split("/")
    return ".".join(filter(None, [package, *parts]))


def _module(tree: Tree, path: str, names: Mapping[str, str]) -> Module:
    name = _name(path, tree.package)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            parsed = ast.parse(tree.read(path))
        level: list[ast.AST] = [parsed]
        for _ in range(DEPTH_MAX):
            level = [child for node in level for child in ast.iter_child_nodes(node)]
        if level:
            raise RecursionError
    except (RecursionError, MemoryError):
        problem = f"nested more than {DEPTH_MAX} levels deep"
        return Module(path, name, problem=problem, rule="too-deep", line=1)
    except (SyntaxError, ValueError, OverflowError) as error:
        problem = getattr(error, "msg", "") or str(error) or "invalid syntax"
        line = getattr(error, "lineno", 1) or 1
        return Module(path, name, problem=problem, rule="syntax-error", line=line)
    package = name if path.endswith("__init__.py") else name.rpartition(".")[0]
    found: dict[str, int] = {}
    for node in _at_load(parsed.body):
        for candidates in _wanted(node, package):
            for wanted in [names[one] for one in candidates if one in names][:1]:
                found.setdefault(wanted, node.lineno)
    return Module(path, name, found)


def _at_load(body: Sequence[ast.AST]) -> Iterator[ast.Import | ast.ImportFrom]:
    """Yield the import statements that run when the module is loaded."""
    for node in body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            yield from _at_load(node.orelse)
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from _at_load(list(ast.iter_child_nodes(node)))


def _wanted(node: ast.Import | ast.ImportFrom, package: str) -> Iterator[tuple[str, ...]]:
    """Yield for each name of an import the modules that it may mean, the most specific first."""
    if isinstance(node, ast.Import):
        for one in node.names:
            yield tuple(accumulate(one.name.split("."), "{}.{}".format))[::-1]
        return
    around = package.split(".")[: package.count(".") + 2 - node.level] if node.level else []
    module = ".".join(filter(None, (*around, node.module)))
    for one in node.names:
        yield (f"{module}.{one.name}" if module else one.name), module
