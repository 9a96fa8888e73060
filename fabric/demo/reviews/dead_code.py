"""DEAD_CODE: functions, classes and constants that nothing in the tree mentions.

Judged by name alone: two things of one name keep each other alive, and what is called from outside
the tree looks unused. So the reviewer says "possibly", and leaves out whatever a framework may
call.
"""

from __future__ import annotations

import builtins
from collections import Counter, defaultdict
from collections.abc import Iterator

from fabric.demo.excerpt import excerpt
from fabric.demo.finding import Finding, Rule, Severity
from fabric.demo.reviews.review import found
from fabric.demo.source import Source, is_test_path
from fabric.demo.symbols import FileSymbols, Index, Symbol

POSSIBLY_UNUSED = Rule(
    "possibly-unused",
    Severity.LOW,
    "Remove it, or name it in `__all__` when it is for callers outside.",
    0.6,
)

#: Decorators that change a function, but do not register it anywhere.
_PLAIN_DECORATORS = frozenset(
    {"staticmethod", "classmethod", "property", "cached_property", "cache", "lru_cache", "wraps"}
    | {"contextmanager", "asynccontextmanager", "dataclass", "final", "total_ordering", "unique"}
    | {"runtime_checkable"}
)
#: Base classes outside the tree that neither register a subclass nor call its methods.
_PLAIN_BASES = frozenset(
    {"object", "ABC", "Generic", "NamedTuple", "TypedDict"}
    | {"Enum", "IntEnum", "StrEnum", "Flag", "IntFlag"}
)
#: The same for classes, though their methods may be hooks.
_PLAIN_CLASS_BASES = _PLAIN_BASES | {"Protocol", "BaseModel", "Struct"}
#: Constants of a file from which on it is a table, as of a protocol: nobody needs all of them.
CONSTANT_TABLE_MIN = 12
#: Modules whose constants are read by a framework.
_SETTINGS_MODULES = frozenset(
    {"settings", "config", "conf", "constants", "conftest", "setup", "noxfile"}
)
#: Names that a runner calls: programs, migrations, plug-ins, test frameworks.
_ENTRY_POINTS = frozenset(
    {"main", "application", "app", "handler", "upgrade", "downgrade", "load_tests", "setup"}
)
_ENTRY_PREFIXES = ("test", "Test", "pytest_", "setup", "teardown", "setUp", "tearDown")


class DeadCode:
    """Compares every definition with every mention in the tree."""

    rules = (POSSIBLY_UNUSED,)

    def __init__(self, index: Index) -> None:
        self._files = {file.path: file for file in index.files}
        self._mentions: Counter[str] = Counter()
        self._quoted: set[str] = set()
        self._exported: set[str] = set()
        self._constant_tables: set[str] = set()
        self._classes: dict[str, list[tuple[Symbol, set[str]]]] = defaultdict(list)
        for file in index.files:
            self._collect(file)
        # Parts of names that the tree puts together, as in getattr(self, f"visit_{kind}").
        self._prefixes = tuple({part for file in index.files for part in file.prefixes})
        self._suffixes = tuple({part for file in index.files for part in file.suffixes})

    def check(self, source: Source) -> Iterator[Finding]:
        """Yield the definitions of one file that nothing mentions; nothing for a file that is not
        in the index.
        """
        file = self._files.get(source.path)
        if file is None:
            return
        classes = {symbol.qualified: symbol for symbol in file.symbols if symbol.kind == "class"}
        dead: set[str] = set()
        for symbol in sorted(file.symbols, key=lambda item: item.line):
            if symbol.owner in dead or not self._is_dead(file, symbol, classes):
                continue
            dead.add(symbol.qualified)
            # A private name can have no caller outside, so there the finding is surer.
            is_private = symbol.name.startswith("_") and not symbol.name.endswith("__")
            severity = Severity.MEDIUM if is_private else Severity.LOW
            name = excerpt(symbol.qualified)
            message = f"the {symbol.kind} `{name}` is possibly unused: nothing here mentions it"
            yield found(source, POSSIBLY_UNUSED, symbol.line, message, severity=severity)

    def _collect(self, file: FileSymbols) -> None:
        self._mentions.update(file.names)
        self._mentions.update(file.attributes)
        self._quoted.update(file.quoted)
        self._exported.update(file.exports)
        for item in file.imports:
            self._mentions[item.name or item.bound] += 1
            if file.path.endswith("__init__.py"):
                self._exported.add(item.name)
        constants = sum(symbol.kind == "constant" for symbol in file.symbols)
        is_settings = file.module.rpartition(".")[2] in _SETTINGS_MODULES
        if is_settings or constants >= CONSTANT_TABLE_MIN:
            self._constant_tables.add(file.path)
        methods: dict[str, set[str]] = defaultdict(set)
        for symbol in file.symbols:
            self._mentions[symbol.name] -= symbol.self_references
            if symbol.owner:
                methods[symbol.owner].add(symbol.name)
        for symbol in file.symbols:
            if symbol.kind == "class":
                self._classes[symbol.name].append((symbol, methods[symbol.qualified]))

    def _is_dead(self, file: FileSymbols, symbol: Symbol, classes: dict[str, Symbol]) -> bool:
        name = symbol.name
        if self._mentions[name] > 0 or name in self._quoted or name in self._exported:
            return False
        if (
            name in _ENTRY_POINTS
            or name.strip("_") == ""
            or (name.startswith("_") and name.endswith("_"))
        ):
            return False
        if any(item.rpartition(".")[2] not in _PLAIN_DECORATORS for item in symbol.decorators):
            return False
        if is_test_path(file.path) and (
            symbol.kind != "function" or name.startswith(_ENTRY_PREFIXES)
        ):
            return False
        if name.startswith(self._prefixes) or name.endswith(self._suffixes):
            return False
        if symbol.kind == "constant":
            return name.startswith("_") or file.path not in self._constant_tables
        if symbol.kind == "class":
            return self._is_plain_class(symbol)
        if symbol.kind == "method":
            return self._is_own_method(symbol, classes.get(symbol.owner))
        return True

    def _is_plain_class(self, symbol: Symbol) -> bool:
        """Tell whether no base class registers the class or makes it otherwise known."""
        for ancestor, methods in self._ancestors(symbol):
            if ancestor.has_metaclass or "__init_subclass__" in methods:
                return False
            if any(not self._is_known(base, _PLAIN_CLASS_BASES) for base in ancestor.bases):
                return False
        return True

    def _is_own_method(self, symbol: Symbol, owner: Symbol | None) -> bool:
        """Tell whether a method overrides nothing and is not offered to callers outside."""
        if owner is None:
            return False
        if owner.name in self._exported and not symbol.name.startswith("_"):
            return False
        for ancestor, methods in self._ancestors(owner):
            if ancestor.has_metaclass:
                return False
            if ancestor is not owner and symbol.name in methods:
                return False
            for base in ancestor.bases:
                if not self._is_known(base, _PLAIN_BASES) or hasattr(
                    getattr(builtins, base, None), symbol.name
                ):
                    return False
        return True

    def _is_known(self, base: str, plain: frozenset[str] | set[str]) -> bool:
        last = base.rpartition(".")[2]
        return (
            last in self._classes
            or last in plain
            or isinstance(getattr(builtins, base, None), type)
        )

    def _ancestors(self, symbol: Symbol) -> Iterator[tuple[Symbol, set[str]]]:
        """Yield a class and all its bases in the tree with their methods. A name may mean several
        classes.
        """
        seen: set[str] = set()
        pending = [symbol]
        methods = next((own for item, own in self._classes[symbol.name] if item is symbol), set())
        yield symbol, methods
        while pending:
            for base in pending.pop().bases:
                last = base.rpartition(".")[2]
                if last in seen:
                    continue
                seen.add(last)
                for item, own in self._classes.get(last, ()):
                    yield item, own
                    pending.append(item)
