"""The edits that the two fixers make: pure, in any order, and never of what a program means."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import permutations

from fabric.demo.content import Content, content, meaning
from fabric.demo.excerpt import excerpt
from fabric.demo.finding import Finding, badness
from fabric.demo.fleet import ANNOTATOR, FORMATTER
from fabric.demo.reviews import alone, examine
from fabric.demo.source import Problem, Source
from fabric.demo.syntax import walk

#: Remarks that ANNOTATOR makes in one file, the worst first: more would hide the code.
REMARKS_MAX = 5

#: Characters of a remark.
REMARK_CHARS_MAX = 90

#: `#!` and the coding line.
_SPECIAL = re.compile(r"#!|[ \t\f]*#.*?coding[:=]")

Edit = Callable[[str, bytes], bytes]


def formatted(path: str, data: bytes) -> bytes:
    """Return a file without white space at the ends of its lines, signed by FORMATTER.

    Strings of several lines keep theirs. Raises ValueError for what is no text.
    """
    whole = _content(path, data)
    kept = _lines_within_strings(whole.source)
    tidy = whole.with_lines(
        line if number in kept else line.rstrip(" \t") for number, line in enumerate(whole.lines, 1)
    )
    return _signed(path, data, tidy, "formatted by FORMATTER")


def annotated(path: str, data: bytes) -> bytes:
    """Return a file with the worst of what the reviewers find as comments, signed by ANNOTATOR.

    Raises ValueError for what is no text.
    """
    whole = _content(path, data)
    placed: dict[int, list[str]] = defaultdict(list)
    for finding in sorted(remarks(whole.source), key=badness)[:REMARKS_MAX]:
        place = _place(whole.source, finding.line)
        if place is not None:
            line, indent = place
            placed[line].append(indent + _comment(finding))
    annotated = whole
    for line in sorted(placed, reverse=True):
        annotated = annotated.inserted(line, placed[line])
    return _signed(path, data, annotated, "annotated by ANNOTATOR")


#: Who makes which edit.
EDITS: dict[str, Edit] = {FORMATTER.name: formatted, ANNOTATOR.name: annotated}


def remarks(source: Source) -> list[Finding]:
    """Return what the reviewers that need no index find at the lines of one file."""
    found = [finding for review in alone() for finding in examine(review, source)]
    return [finding for finding in found if finding.line]


def is_editable(path: str, data: bytes) -> bool:
    """Tell whether both edits can be made in either order, without a change of what the file
    means.
    """
    if content(path, data) is None or meaning(path, data) is None:
        return False
    wholes = [whole for names, whole in _outcomes(path, data) if len(names) == len(EDITS)]
    return all(meaning(path, whole) == meaning(path, data) for whole in wholes)


def made_so_far(path: str, before: bytes, now: bytes) -> tuple[str, ...] | None:
    """Name who has edited a file, in order; None when it is not just what these edits make of it.

    The edits are pure, so that every outcome is known beforehand: an edit that was overwritten, or
    half written, is none of them.
    """
    return next((names for names, whole in _outcomes(path, before) if whole == now), None)


def _outcomes(path: str, before: bytes) -> Iterator[tuple[tuple[str, ...], bytes]]:
    for count in range(len(EDITS) + 1):
        for names in permutations(EDITS, count):
            whole = before
            for name in names:
                whole = EDITS[name](path, whole)
            yield names, whole


def _content(path: str, data: bytes) -> Content:
    whole = content(path, data)
    if whole is None:
        raise ValueError(f"{path} is no text that can be edited")
    return whole


def _signed(path: str, data: bytes, edited: Content, words: str) -> bytes:
    """Return an edit with its signature; the signature alone when the edit would change more than
    comments and white space.
    """
    signature = f"# fabric demo: {words}"
    whole = edited.appended(signature).data()
    if meaning(path, whole) == meaning(path, data):
        return whole
    return _content(path, data).appended(signature).data()


def _lines_within_strings(source: Source) -> set[int]:
    """Return the lines whose end lies inside a string, or may do so."""
    tree = source.parse()
    if isinstance(tree, Problem):
        return set(range(1, len(source.lines) + 1))
    within: set[int] = set()
    for node in walk(tree):
        if isinstance(node, ast.Constant | ast.JoinedStr) and node.end_lineno is not None:
            within.update(range(node.lineno, node.end_lineno))
    return within


def _place(source: Source, line: int) -> tuple[int, str] | None:
    """Return the line above which a comment on `line` may stand, and its indent: that of the
    innermost statement, or of `line` itself when it belongs to none.

    Never among the lines that have to be the first.
    """
    tree = source.parse()
    if isinstance(tree, Problem):
        return None
    start = 0
    for node in walk(tree):
        if isinstance(node, ast.stmt):
            lines = [node.lineno, *(item.lineno for item in getattr(node, "decorator_list", ()))]
            if start < min(lines) <= line <= (node.end_lineno or node.lineno):
                start = min(lines)
    place = max(start or line, _preamble(source) + 1)
    text = source.line(place)
    return place, text[: len(text) - len(text.lstrip(" \t"))]


def _preamble(source: Source) -> int:
    """Return how many lines at the front mean something to the system or to Python by being there.

    Which lines those can be says PEP 263.
    """
    special = [n for n in (1, 2) if _SPECIAL.match(source.line(n))]
    return max(special, default=0)


def _comment(finding: Finding) -> str:
    words = excerpt(f"{finding.rule}: {finding.message}", REMARK_CHARS_MAX)
    # The file may be in any character set.
    return f"# review: {words.replace('…', '...')}".encode("ascii", "backslashreplace").decode()
