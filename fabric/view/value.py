"""Values that agents give, as people read them: on one line, or as an outline, a table or text."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from fabric.view.markdown import code, cut, paragraphs, table, text

#: Characters of a value that one line of a report shows; a longer one is shown in lines of its own.
LINE_CHARS_MAX = 200

#: Characters of a text that a report shows; `--json` has all of it.
TEXT_CHARS_MAX = 4_000

#: Rows of a table, and members of a map or list, that a report shows.
ROWS_MAX = 200

#: Columns of a table: above that it is not readable.
COLUMNS_MAX = 10

#: Characters of a cell of a table.
CELL_CHARS_MAX = 100

_encode = msgspec.json.Encoder().encode


def flat(value: Any, chars_max: int = LINE_CHARS_MAX) -> str:
    """Return a value as JSON on one line, cut between words; ends of lines in texts are blanks."""
    flattened = _flattened(value)
    if isinstance(flattened, str):
        # JSON would show a backslash twice.
        return f'"{cut(flattened, chars_max - 2)}"'
    return cut(_encode(flattened).decode(), chars_max)


def span(value: Any, chars_max: int = LINE_CHARS_MAX) -> str:
    """Return a value as a code span on one line."""
    return code(flat(value, chars_max))


def is_short(value: Any) -> bool:
    """Whether one line shows all of a value."""
    if isinstance(value, str):
        return len(value) <= LINE_CHARS_MAX and not _has_lines(value)
    if isinstance(value, Mapping | list):
        inside = value.values() if isinstance(value, Mapping) else value
        return all(map(is_short, inside)) and len(_encode(value)) <= LINE_CHARS_MAX
    return True


def outline(
    value: Any, indent: str = "", write: Callable[[str], Sequence[str]] = paragraphs
) -> Iterator[str]:
    """Yield the lines of a value: text in paragraphs, rows as a table, members as a list.

    `write` turns a text of several lines into Markdown.
    """
    if isinstance(value, str) and not is_short(value):
        yield from (f"{indent}{line}".rstrip() for line in write(cut(value, TEXT_CHARS_MAX)))
    elif columns := _columns(value):
        rows = [[cell(row.get(name)) for name in columns] for row in value[:ROWS_MAX]]
        yield from (indent + line for line in table([text(name) for name in columns], rows))
        if (more := len(value) - ROWS_MAX) > 0:
            yield from ("", f"{indent}… {more:,} more rows")
    elif isinstance(value, Mapping | list) and value:
        yield from _members(value, indent, write)
    else:
        yield f"{indent}{span(value)}"


def _members(
    value: Mapping[str, Any] | list[Any], indent: str, write: Callable[[str], Sequence[str]]
) -> Iterator[str]:
    """Yield a line for each member of a map or list, and what lies in it beneath."""
    if isinstance(value, Mapping):
        members = [
            (f"{code(cut(name, LINE_CHARS_MAX)) or span(name)}:", value[name]) for name in value
        ]
    else:
        # A dash on a line by itself would make a heading of the line before.
        members = [("" if _is_line(one) else f"item {at}:", one) for at, one in enumerate(value, 1)]
    for label, one in members[:ROWS_MAX]:
        if _is_line(one):
            yield f"{indent}- {label} {span(one)}" if label else f"{indent}- {span(one)}"
            continue
        yield f"{indent}- {label}"
        if isinstance(one, str) or _columns(one):
            yield ""  # a paragraph and a table begin after an empty line
        yield from outline(one, indent + "  ", write)
    if (more := len(members) - ROWS_MAX) > 0:
        yield f"{indent}- … {more:,} more"


def _is_line(value: Any) -> bool:
    """Whether a member of an outline is shown on the line of its name."""
    return is_short(value) and not (isinstance(value, Mapping | list) and value)


def cell(value: Any) -> str:
    """Return a value as the content of a cell of a table."""
    if value is None:
        return ""
    if isinstance(value, str):
        return text(cut(_flattened(value), CELL_CHARS_MAX))
    if isinstance(value, Mapping):  # agents differ: each one's value
        return text(
            cut(", ".join(f"{name}: {_plain(one)}" for name, one in value.items()), CELL_CHARS_MAX)
        )
    return text(cut(_plain(value), CELL_CHARS_MAX))


def _plain(value: Any) -> str:
    return _flattened(value) if isinstance(value, str) else _encode(value).decode()


def _columns(value: Any) -> list[str]:
    """Return the columns of a table, none for anything else: its rows are maps of plain values."""
    if not isinstance(value, list) or not all(isinstance(row, Mapping) and row for row in value):
        return []
    names = {name: None for row in value for name in row}
    if len(names) > COLUMNS_MAX:
        return []
    if not all(_is_plain(one) for row in value for one in row.values()):
        return []
    # What names a row comes before what is counted in it.
    return sorted(names, key=lambda name: not isinstance(value[0].get(name), str))


def _is_plain(value: Any) -> bool:
    if isinstance(value, Mapping):
        return bool(value) and not any(isinstance(one, Mapping | list) for one in value.values())
    return not isinstance(value, list) and (not isinstance(value, str) or not _has_lines(value))


def _has_lines(value: str) -> bool:
    return len(value.splitlines()) > 1 and not value.isspace()


def _flattened(value: Any) -> Any:
    if isinstance(value, str):
        return value if value.isprintable() else " ".join(value.split())
    if isinstance(value, Mapping):
        return {name: _flattened(one) for name, one in value.items()}
    return [_flattened(one) for one in value] if isinstance(value, list) else value
