"""The symbol index of a tree: what each file defines, imports and refers to. The fleet's dependency
`index`.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import msgspec

from fabric.wire.printable import printable

#: Raised when the form of the index changes; a reader refuses any other.
INDEX_VERSION = 1


class Symbol(msgspec.Struct, frozen=True, omit_defaults=True):
    """A definition: `kind` is function, method, class or constant; `owner` the qualified name of
    its class.

    `self_references` counts the mentions of its own name inside its own body, which keep nothing
    alive.
    """

    name: str
    kind: str
    line: int
    qualified: str
    owner: str = ""
    decorators: tuple[str, ...] = ()
    bases: tuple[str, ...] = ()
    has_metaclass: bool = False
    self_references: int = 0


class Import(msgspec.Struct, frozen=True, omit_defaults=True):
    """One name of one import statement.

    `module` is as written, without the leading dots that `level` counts; `name` is what `from
    module import name` takes ("" for a plain import, "*" for all); `bound` the name that it gets in
    the file. `line` is that of the name, `statement_line` that of the word `import` or `from`.
    `deferred` imports do not run when the module is loaded (in a function, for type checkers only,
    under `__main__`); `guarded` ones stand in a `try` that expects them to fail; `explicit` ones
    are offered to others on purpose: written `x as x`, or in a class body.
    """

    module: str
    line: int
    statement_line: int
    bound: str
    name: str = ""
    level: int = 0
    deferred: bool = False
    guarded: bool = False
    explicit: bool = False


class FileSymbols(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one file defines and mentions.

    `names` and `attributes` count the mentions of plain and of dotted names; `quoted` are
    identifiers inside strings that look like code; `prefixes` and `suffixes` parts of names that
    are put together, as in `f"visit_{kind}"`. `exports` is `__all__`. `parsed` is false for a file
    that has no syntax tree; everything else is then empty.
    """

    path: str
    module: str
    parsed: bool = True
    symbols: tuple[Symbol, ...] = ()
    imports: tuple[Import, ...] = ()
    exports: tuple[str, ...] = ()
    names: dict[str, int] = {}
    attributes: dict[str, int] = {}
    quoted: tuple[str, ...] = ()
    prefixes: tuple[str, ...] = ()
    suffixes: tuple[str, ...] = ()


class Index(msgspec.Struct, frozen=True):
    """The symbols of all files of a tree; `package` is the dotted package that the tree's root lies
    in.
    """

    package: str
    files: tuple[FileSymbols, ...]
    version: int = INDEX_VERSION


def module_of(path: str, package: str = "") -> str:
    """Return the dotted module name of a relative path, under `package`: `a/b/__init__.py` is
    `a.b`.
    """
    parts = path.removesuffix(".py").split("/")
    if parts[-1] == "__init__":
        parts.pop()
    return ".".join(([package] if package else []) + parts)


def write_index(index: Index, path: str | os.PathLike[str]) -> None:
    """Write the index as JSON and put it in place in one step, so that no reader ever sees half of
    it.

    Raises OSError when the directory does not take it; nothing is left behind then.
    """
    target = Path(path)
    descriptor, temporary = tempfile.mkstemp(
        dir=target.parent, prefix=f".{target.name}.", suffix=".new"
    )
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(msgspec.json.encode(index))
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def read_index(path: str | os.PathLike[str]) -> Index:
    """Read an index. Raises OSError when it cannot be read and ValueError when it is not one of
    this version.
    """
    data = Path(path).read_bytes()
    try:
        index = msgspec.json.decode(data, type=Index)
    except msgspec.MsgspecError as error:
        raise ValueError(f"{printable(str(path))} is not a symbol index: {error}") from error
    if index.version != INDEX_VERSION:
        raise ValueError(
            f"{printable(str(path))} is a symbol index of version {index.version}; "
            f"this program reads version {INDEX_VERSION}"
        )
    return index
