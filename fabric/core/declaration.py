"""What a rule or a setting is: its unit, its bounds, and the sentence that explains it.

`Rules` (fabric/core/rules.py) and `Settings` (fabric/config/settings.py) annotate their fields with
these and with the sentence, a plain text. Nothing else says it again: the checks of what a person
writes, the output of `fabric rules show`, the example file, flags and docs/rules.md are all made
from them.
"""

from __future__ import annotations

from enum import Enum, StrEnum
from functools import cache
from types import NoneType
from typing import Annotated, Any, NamedTuple, TypeVar, get_args, get_origin, get_type_hints

from fabric.core.limits import NAME_CHARS_MAX

T = TypeVar("T")

#: Longest time, ms: a year. More is a slip of the unit, and sums stay far below what Lua counts.
TIME_MS_MAX = 365 * 86_400_000
#: Characters of one argument of a program; a program reads more from a file.
ARGUMENT_CHARS_MAX = 4_096
#: Characters of a namespace: every key begins with it.
NAMESPACE_CHARS_MAX = 64


class Text(Enum):
    """What a text may hold, in words; fabric/config/check.py checks it."""

    #: Names stand in keys, tables and terminals.
    NAME = f"1 to {NAME_CHARS_MAX} printable characters, no outer spaces"
    #: `*` means everybody where agents are addressed.
    AGENT = f"1 to {NAME_CHARS_MAX} printable characters, no outer spaces, not *"
    AGENT_OR_NONE = 'an agent\'s name, or ""'
    #: A name that may be left out.
    NAME_OR_NONE = f'a name of up to {NAME_CHARS_MAX} characters, or ""'
    NAMESPACE = f"1 to {NAMESPACE_CHARS_MAX} characters, no braces, colons, spaces or control ones"
    POINTER = "a JSON Pointer, or a glob of several"
    REDUCER = "the name of a reducer"
    FIELD = "path, rule, title, url, source, severity, key or data.NAME"
    SIGNAL_TYPE = "a signal type"
    #: The operating system takes no NUL in an argument.
    ARGUMENT = f"up to {ARGUMENT_CHARS_MAX} printable characters"
    #: A name that is checked where it is used.
    FREE = f"1 to {NAME_CHARS_MAX} printable characters"
    #: The server's address; the driver checks it.
    URL = "a URL"

    def __str__(self) -> str:
        """Return the words."""
        return str(self.value)


class Number(NamedTuple):
    """What a number counts, and its bounds."""

    unit: str
    ge: int
    le: int | None = None
    #: What 0 means, where that is more than none of them.
    zero: str = ""

    def __str__(self) -> str:
        """Return the bounds: `0 (no limit) to 1000`."""
        least = str(self.ge) + (f" ({self.zero})" if self.zero else "")
        if self.le is None:
            return f"at least {least}"
        year = " (a year)" if self.le == TIME_MS_MAX else ""
        return f"{least} to {self.le}{year}"


class Items(NamedTuple):
    """The bounds of a list: how many items, 0 or 1 at least, and what they must be."""

    min: int
    max: int
    #: Whether an item may stand there once only.
    unique: bool = False
    #: The field of a list's tables that no two of them may share.
    distinct: str = ""
    #: Whether the first item must name a program.
    program: bool = False

    def __str__(self) -> str:
        """Return the bounds: `1 to 10 items, none twice`."""
        once = ", none twice" if self.unique else ""
        return f"{self.min} to {self.max} {'tables' if self.distinct else 'items'}{once}"


class Declared(NamedTuple):
    """What neither a field's type and bounds nor its sentence say."""

    #: Where a file has it, such as "limits.agents_max"; by default the field's own name.
    key: str = ""
    #: The field of the same table that is this one's lower bound.
    not_below: str = ""
    #: Whether a file's entries are added to the default ones, instead of replacing them.
    added: bool = False
    #: What a person should write, where type and bounds do not say it.
    write: str = ""
    #: A value for the example file, where the default shows nothing.
    example: Any = None
    #: Whether a setting is a flag of the workers' commands.
    worker_flag: bool = False


class Hint(NamedTuple):
    """A type, without annotations and without None, and its annotations."""

    kind: Any
    notes: tuple[Any, ...]

    def note(self, of: type[T]) -> T | None:
        """Return the annotation of a class, if there is one."""
        return next((note for note in self.notes if isinstance(note, of)), None)

    @property
    def inner(self) -> tuple[Hint, ...]:
        """Return the types of a table's names and values, or of a list's items."""
        return tuple(parts(part) for part in get_args(self.kind) if part is not ...)

    @property
    def is_tables(self) -> bool:
        """Whether it is a list of tables."""
        return get_origin(self.kind) is tuple and hasattr(self.inner[0].kind, "__struct_fields__")

    @property
    def unit(self) -> str:
        """Return what a number counts; of other types, what is to be written."""
        if (number := self.note(Number)) is not None:
            return number.unit
        if self.is_tables:
            return "tables"
        if isinstance(self.kind, type) and issubclass(self.kind, StrEnum):
            return "word"
        units = {bool: "switch", tuple: "list", dict: "table"}
        return units.get(get_origin(self.kind) or self.kind, "text")

    @property
    def bounds(self) -> str:
        """Return in a few words what may be written."""
        for note in self.notes:
            if isinstance(note, Number | Text | Items):
                return str(note)
        if get_origin(self.kind) is dict:
            return " = ".join(part.bounds for part in self.inner)
        if self.kind is bool:
            return "true or false"
        *first, last = (f'"{member.value}"' for member in self.kind)
        return f"{', '.join(first)} or {last}"


class Field(NamedTuple):
    """A declared field of a class."""

    name: str
    hint: Hint
    #: One plain sentence or two, for people.
    sentence: str
    declared: Declared

    @property
    def key(self) -> str:
        """Return where a file has the field, with dots."""
        return self.declared.key or self.name


def parts(hint: Any) -> Hint:
    """Part a type from its annotations, and from None."""
    if get_origin(hint) is Annotated:
        kind, *notes = get_args(hint)
        inner = parts(kind)
        return Hint(inner.kind, (*inner.notes, *notes))
    if NoneType in get_args(hint):
        return parts(next(part for part in get_args(hint) if part is not NoneType))
    return Hint(hint, ())


@cache
def fields(of: type) -> tuple[Field, ...]:
    """Return the declared fields of a class, in order; TypeError if one is not declared."""
    found = []
    for name, hint in get_type_hints(of, include_extras=True).items():
        parted = parts(hint)
        sentence = parted.note(str)
        if sentence is None:
            raise TypeError(f"{of.__name__}.{name} is not declared: annotate it with a sentence")
        found.append(Field(name, parted, sentence, parted.note(Declared) or Declared()))
    return tuple(found)
