"""Small pieces of Markdown (CommonMark, GitHub tables) around text that may be hostile."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence

from fabric.wire.stored import printable

_SPECIAL = re.compile(r"[\\`*{}\[\]<>|~#!&^$]|(?<![^\W_])_|_(?![^\W_])|(?<=:)//|www\.")
#: The beginning of a line, up to the character that makes it an item of a list or a heading.
_LEADING = re.compile(r"^(\s*(?:(?=[-+=])|\d+(?=[.)](?:\s|$))))")
_BACKTICKS = re.compile(r"`+")
#: The name of somebody who would be told, an address, or the number of another comment. They are
#: looked for in what is shown, after all escapes; not in code.
_CALL = re.compile(r"((?<![\w./+-])(?:[\w./+-]*(?:@(?=\w)|#(?=\d))[\w.@#/-]*|GH-\d+))")
_MENTION = re.compile(r"([@#])(?=\w)")
#: Between a mark and a name it is not shown, and the name is none any more.
_NOTHING = "&#8203;"
#: Begins, or ends, a block of code in what an agent writes.
_FENCE = re.compile(r"\s*(`{3,}|~{3,})\s*([\w+#.-]*)\s*$")
#: Blanks besides the usual one.
_BLANKS = re.compile(r"[\t\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]")
#: A tag, a comment or an entity that begins.
_TAG = re.compile(r"<(?=[A-Za-z/!?])")

#: Characters of a word: a longer piece of text without an end is cut anywhere.
_WORD_CHARS_MAX = 40


def text(value: str) -> str:
    """Return `value` as one line of text without any markup: no heading, link, tag or emphasis."""
    parts = _CALL.split(_line(value))
    return _joined(code(one) if at % 2 else _escaped(one) for at, one in enumerate(parts))


def prose(value: str) -> str:
    """Return a message as text without markup; names between paired backticks become code."""
    parts = value.split("`")
    if len(parts) % 2 == 0:
        return text(value)
    return _joined(code(part) if number % 2 else text(part) for number, part in enumerate(parts))


def paragraphs(value: str) -> list[str]:
    """Return a message of several lines as lines of Markdown; its fenced code stays code."""
    found: list[str] = []
    inside: list[str] | None = None
    fence = language = ""
    for line in value.splitlines():
        mark = _FENCE.match(line)
        if inside is None and mark:
            inside, fence, language = [], mark[1], mark[2]
        elif inside is not None and mark and mark[1].startswith(fence) and not mark[2]:
            found += [*_after(found), *block(inside, language), ""]
            inside = None
        elif inside is not None:
            inside.append(line)
        elif line.strip():
            if found and found[-1]:
                found[-1] += "\\"  # a line that ends here, in the text as it is shown too
            found.append(prose(line.strip()))
        else:
            found += _after(found)
    found += [*_after(found), *block(inside, language)] if inside is not None else []
    while found and not found[-1]:
        found.pop()
    return found


def _after(lines: Sequence[str]) -> list[str]:
    """Return the empty line that ends a paragraph, if there is one to end."""
    return [""] if lines and lines[-1] else []


def trusted(value: str) -> list[str]:
    """Return lines of Markdown whose writer is trusted: as they are, but they keep to themselves.

    No tag begins in them, nobody is called by name, and a fence that is open at the end is closed.
    """
    found, fence = [], ""
    for line in value.splitlines():
        mark = re.match(r"\s*(`{3,}|~{3,})", line)
        if fence:
            ended = _FENCE.match(line)
            fence = "" if ended and ended[1].startswith(fence) and not ended[2] else fence
            found.append(_code_line(line))
        elif mark:
            fence = mark[1]
            found.append(_code_line(line))
        else:
            parts = _code_line(line).split("`")
            tame = [
                part if number % 2 else _MENTION.sub(rf"\1{_NOTHING}", _TAG.sub("&lt;", part))
                for number, part in enumerate(parts)
            ]
            found.append("`".join(tame))
    return [*found, fence] if fence else found


def code(value: str) -> str:
    """Return `value` as a code span on one line; its fence is longer than any backticks inside."""
    shown = _line(value)
    if not shown.strip():
        return ""
    fence = "`" * (_longest(shown) + 1)
    pad = " " if shown[0] in "` " or shown[-1] in "` " else ""
    return f"{fence}{pad}{shown}{pad}{fence}"


def block(lines: Iterable[str], language: str = "") -> list[str]:
    """Return the lines of a fenced code block that no line inside can close."""
    shown = [_code_line(line) for line in lines]
    fence = "`" * max(3, _longest("\n".join(shown)) + 1)
    return [f"{fence}{language}", *shown, fence]


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of a table. Cells are Markdown; bars in them are escaped here."""
    lines = [f"| {' | '.join(header)} |", f"|{'|'.join(' --- ' for _ in header)}|"]
    lines += [f"| {' | '.join(_cell(cell) for cell in row)} |" for row in rows]
    return lines


def folded(summary: str, lines: Sequence[str]) -> list[str]:
    """Return lines that a reader unfolds (GitHub's `<details>`); the summary is any text."""
    # Inside a tag Markdown is not read: what an agent wrote is escaped as HTML.
    title = _MENTION.sub(rf"\1{_NOTHING}", html.escape(_line(summary), quote=False))
    return [f"<details><summary>{title}</summary>", "", *lines, "", "</details>"]


def cut(value: str, chars_max: int) -> str:
    """Return a text of at most `chars_max` characters; it is cut between two words, at an `…`."""
    if len(value) <= chars_max:
        return value
    head = value[: chars_max - 1]
    if value[chars_max - 1].isalnum():
        whole = re.sub(r"\w+$", "", head[-_WORD_CHARS_MAX:])
        head = head[:-_WORD_CHARS_MAX] + whole if whole else head
    return head.rstrip() + "…"


def _escaped(value: str) -> str:
    return _LEADING.sub(r"\1\\", _SPECIAL.sub(_escape, value))


def _joined(parts: Iterable[str]) -> str:
    """Join text and code; two pieces of code side by side stay two."""
    joined = ""
    for part in parts:
        between = _NOTHING if joined.endswith("`") and part.startswith("`") else ""
        joined += between + part
    return joined


def _line(value: str) -> str:
    """Return a text with an escape for each character that would not show on its line."""
    return value if value.isprintable() else printable(_BLANKS.sub(" ", value))


def _code_line(value: str) -> str:
    # A tab is part of the code.
    return "\t".join(_line(part) for part in value.split("\t"))


def _cell(value: str) -> str:
    # A bar ends the cell even inside a code span. Bars that are escaped already stay.
    return re.sub(r"(?<!\\)((?:\\\\)*)\|", r"\1\\|", value)


def _escape(match: re.Match[str]) -> str:
    found = match[0]
    if found == "//":
        return "/\\/"
    return "www\\." if found == "www." else f"\\{found}"


def _longest(value: str) -> int:
    return max(map(len, _BACKTICKS.findall(value)), default=0)
