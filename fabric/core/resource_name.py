"""The one spelling of a resource, as far as it can be known without looking at any files.

Agents write the same file in many ways: `./src/a.py`, `src\\a.py`, `file:///repo/a.py`,
`src/{a,b}.py`, or a list in one text, `src/a.py,src/b.py`. `names_of` gives the spelling that
everything else compares. What only the file system can tell (links, the folder that relative paths
start from, whether letters count) the senders add: `fabric/devserver/path.py`.

`[,]`, `[{]`, `[}]`, `[\\]`, `[*]`, `[?]` and `[[]` stand for the character itself, as in any glob.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from unicodedata import normalize

from fabric.core.limits import LIST_ITEMS_MAX

#: As RFC 3986 spells a scheme; it is matched at the front only.
SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")

#: A local file as a URL. Another host's file is another thing.
_FILE_URL = re.compile(r"file:(?://(?:localhost)?(?=/)|(?=/(?!/)))", re.IGNORECASE)
_PERCENT = re.compile(r"(?:%[0-9A-Fa-f]{2})+")

#: Characters that mean more than themselves in a resource.
_SPECIAL = re.compile(r"[*?\[\\{},]")

#: A class of one character, which is that character itself; a backslash; or one other character.
_ATOM = re.compile(r"\[[^\]!^]\]|\[\]\]|.", re.DOTALL)

#: `{1..3}` and `{a..c}`, as shells write them.
_RANGE = re.compile(r"(?P<first>-?\d{1,9}|[A-Za-z])\.\.(?P<last>-?\d{1,9}|[A-Za-z])")


#: Part of a path that is a name in brackets, as web frameworks name folders and files: `[id]`,
#: `[...slug].tsx`, `[[lang]]`, `[post-slug]`. Each word has two letters at least: `[ab-cd]` is a
#: name, and `[a-z]` is a class.
_BRACKETED = re.compile(r"(?:[^\[\]*?]|\[\[?(?:\.\.\.)?[A-Za-z_]\w+(?:[-=]\w\w+)*\]\]?)*")


#: Characters that may be read to take lists and braces apart, some that are read again included:
#: half a microsecond each. A thousand names with braces in them have a third of that.
CHARS_READ_MAX = 200_000


class ManyNamesError(Exception):
    """One list names more resources than a signal may, or takes too much work to read."""


class _Budget:
    """What is left of CHARS_READ_MAX."""

    def __init__(self) -> None:
        self.left = CHARS_READ_MAX

    def atoms(self, text: str) -> Iterator[re.Match[str]]:
        """Yield a text's characters, and classes of one. Raises ManyNamesError."""
        self.left -= len(text)
        if self.left < 0:
            raise ManyNamesError
        return _ATOM.finditer(text)


def names_of(texts: Iterable[str]) -> list[str]:
    """Return the resources that texts name: one spelling each, in order, none twice.

    Lists and braces are taken apart. Raises ManyNamesError above LIST_ITEMS_MAX.
    """
    given = list(texts)
    if not given:
        return given
    whole = "".join(given)  # most name one thing each: look at all at once
    is_plain = "," not in whole and "{" not in whole
    names = dict.fromkeys(map(normalise, given if is_plain else expand(given)))
    if len(names) > LIST_ITEMS_MAX:
        raise ManyNamesError
    names.pop("", None)
    return list(names)


def expand(texts: Iterable[str]) -> Iterator[str]:
    """Yield each resource that texts name, as it is spelled there. Raises ManyNamesError."""
    taken_apart = 0
    budget = _Budget()
    for text in texts:
        if "," not in text and "{" not in text:
            yield text
            continue
        for item in _split(text, budget):
            for name in _braces(item, budget):
                # Those that come twice count too: each takes its time.
                taken_apart += 1
                if taken_apart > LIST_ITEMS_MAX:
                    raise ManyNamesError
                yield name


def folder_names(name: str) -> tuple[str, ...]:
    """Return the names of a folder: `src` and `src/**` are given back as one."""
    return (name, name.removesuffix("/**") if name.endswith("/**") else f"{name}/**")


def literal(name: str) -> str:
    """Return the resource that is exactly one name, whatever characters are in it."""
    return _SPECIAL.sub(r"[\g<0>]", name)


def is_url(text: str) -> bool:
    """Whether a resource is a URL; URLs and paths never meet."""
    if "://" in text:
        return SCHEME.match(text) is not None
    return ":/" in text and _FILE_URL.match(text) is not None


def is_bracketed(part: str) -> bool:
    """Whether what a part of a path has in brackets are names: no wildcards, unless as a class."""
    return _BRACKETED.fullmatch(part) is not None


def with_slashes(text: str) -> str:
    """Return a path with each backslash, but for `[\\]`, as a slash."""
    if "\\" not in text:
        return text
    return "".join("/" if atom == "\\" else atom for atom in _ATOM.findall(text))


def normalise(text: str) -> str:
    """Return the one spelling of a resource; normalising again changes nothing. Raises nothing.

    Text is in Unicode's NFC; `.` parts, doubled `/` and `x/..` go, `..` at the front of a relative
    path stays. A backslash is a `/`. What ends in `/`, `.` or `..` is a folder, with all that is
    below it: `src/` is `src/**`, `.` is `**`. The URL of a local file is its path; any other URL is
    left as it is.

    `..` after `*` takes back exactly the one part that `*` stands for: `a/*/../b` is `a/b`. After
    `**` it may take back a part of it, or the part before when `**` stands for none: `a/**/../b`
    is `b`, `a/b`, `a/x/b` and so on. `**/b` is the narrowest glob that has them all.
    """
    if (
        text.isascii()
        and "/." not in text
        and "//" not in text
        and ":/" not in text
        and "**/**" not in text
        and "\\" not in text
        and not text.startswith(".")
        and not text.endswith("/")
    ):
        return text
    if is_url(text):
        local = _FILE_URL.match(text)
        if local is None:
            return text
        text = _PERCENT.sub(_decoded, text[local.end() :])
    parts = normalize("NFC", with_slashes(text)).split("/")
    root = [""] if parts[0] == "" and len(parts) > 1 else []
    kept = root.copy()
    for part in parts:
        if part == "..":
            _climb(kept, rooted=bool(root))
        elif part not in ("", ".") and not (part == "**" and kept[-1:] == ["**"]):
            kept.append(part)
    if parts[-1] in ("", ".", "..") and kept[-1:] != ["**"]:
        kept.append("**")
    return "/".join(kept)


def _decoded(match: re.Match[str]) -> str:
    """Return what percent signs stand for: characters of a name, none of them special."""
    text = bytes.fromhex(match[0].replace("%", "")).decode("utf-8", "replace")
    return literal(text)


def _climb(kept: list[str], rooted: bool) -> None:
    """Apply `..` to the parts so far; see `normalise` for `**`."""
    if kept[-1:] == ["**"]:
        kept.pop()
        if len(kept) > rooted and kept[-1] != "..":
            kept.pop()
        if kept[-1:] != ["**"]:
            kept.append("**")
    elif len(kept) > rooted and kept[-1] != "..":
        kept.pop()
    elif not rooted:
        kept.append("..")


def _split(text: str, budget: _Budget) -> list[str]:
    """Take a list in one text apart at its commas; in braces they mean something else.

    A URL may have commas of its own: behind one, only another URL begins a new item.
    """
    items: list[str] = []
    pieces = list(_pieces(text, budget))
    if len(pieces) == 1:
        return pieces
    for piece in pieces:
        is_within = bool(items) and is_url(items[-1]) and not _FILE_URL.match(items[-1])
        if is_within and not is_url(piece.strip()):
            items[-1] += f",{piece}"
        elif piece.strip():
            items.append(piece.strip())
    return items or [text]


def _pieces(text: str, budget: _Budget) -> Iterator[str]:
    """Yield what stands between the commas outside of braces."""
    closing = _closing(text, budget)
    piece, end = "", -1
    for match in budget.atoms(text):
        end = max(end, closing.get(match.start(), -1))
        if match[0] == "," and match.start() > end:
            yield piece
            piece = ""
        else:
            piece += match[0]
    yield piece


def _closing(text: str, budget: _Budget) -> dict[int, int]:
    """Return the place of each `{` that is closed, and the place of its `}`."""
    found: dict[int, int] = {}
    open_: list[int] = []
    for match in budget.atoms(text):
        if match[0] == "{":
            open_.append(match.start())
        elif match[0] == "}" and open_:
            found[open_.pop()] = match.start()
    return found


def _braces(text: str, budget: _Budget) -> Iterator[str]:
    """Yield what `{a,b}` and `{1..3}` stand for, as shells read them; other braces are characters.

    Raises ManyNamesError above LIST_ITEMS_MAX.
    """
    todo = [(0, text)]
    done = 0
    while todo:
        start, rest = todo.pop()
        found = _first_group(rest, start, budget)
        if found is None:
            done += 1
            yield rest
            continue
        opening, closing, choices = found
        # What is before the group is settled; a choice may have groups of its own.
        todo += [
            (opening, f"{rest[:opening]}{choice}{rest[closing + 1 :]}")
            for choice in reversed(choices)
        ]
        if len(todo) + done > LIST_ITEMS_MAX:
            raise ManyNamesError


def _first_group(text: str, start: int, budget: _Budget) -> tuple[int, int, list[str]] | None:
    """Return the first braces that mean something from a place on: where, and the choices."""
    if "{" not in text[start:]:
        return None
    for opening, closing in sorted(_closing(text, budget).items()):
        if opening < start:
            continue
        inside = text[opening + 1 : closing]
        if (span := _RANGE.fullmatch(inside)) is not None:
            choices = _span(span["first"], span["last"])
        else:
            choices = list(_pieces(inside, budget)) if "," in inside else []
        if len(choices) > 1:
            return opening, closing, choices
    return None


def _span(first: str, last: str) -> list[str]:
    """Return all from the first number or letter to the last; nothing if they are of two kinds."""
    is_letters = first.isalpha()
    if is_letters is not last.isalpha():
        return []
    low, high = (ord(first), ord(last)) if is_letters else (int(first), int(last))
    if abs(high - low) >= LIST_ITEMS_MAX:
        raise ManyNamesError
    step = 1 if low <= high else -1
    values = range(low, high + step, step)
    return [chr(value) if is_letters else str(value) for value in values]
