"""What the fixers have done to the scratch copy, and the report's section about it."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from fabric.demo.edits import EDITS
from fabric.demo.source import decode
from fabric.demo.turns import Turn, Turns
from fabric.demo.workshop import Workshop, resource
from fabric.view import markdown

#: Lines of a difference that are shown.
DIFFERENCE_LINES_MAX = 40


class Change(msgspec.Struct, frozen=True):
    """What became of one file: who has edited it, in order, as its bytes show; None when an edit
    was overwritten. `turns` is what the log says.
    """

    path: str
    edits: tuple[str, ...] | None
    turns: tuple[Turn, ...]

    @property
    def is_whole(self) -> bool:
        """Whether the file holds the edits of all fixers."""
        return self.edits is not None and len(self.edits) == len(EDITS)


class Changes(msgspec.Struct, frozen=True):
    """All files of the copy, and the lines by which the first of them differs."""

    files: tuple[Change, ...] = ()
    difference: tuple[str, ...] = ()
    #: What did not go as it should, agent by agent.
    remarks: tuple[str, ...] = ()

    @property
    def lost(self) -> tuple[str, ...]:
        """Name the files that lack an edit."""
        return tuple(change.path for change in self.files if not change.is_whole)


def changes(folder: Path, turns: Turns, remarks: Sequence[str] = ()) -> Changes:
    """Look at the copy in a folder; one that was never made has no files. Raises OSError."""
    try:
        workshop = Workshop.open(folder)
    except FileNotFoundError:
        return Changes(remarks=tuple(remarks))
    made = workshop.made()
    files = tuple(Change(path, edits, turns.of(resource(path))) for path, edits in made.items())
    difference = _difference(workshop, workshop.files[0]) if workshop.files else []
    return Changes(files, tuple(difference), tuple(remarks))


def hand_over(folder: Path, target: Path) -> None:
    """Put the fixed files of the copy in a folder into `target`; none when it was never made.

    Raises OSError.
    """
    with suppress(FileNotFoundError):
        Workshop.open(folder).hand_over(target)


def _difference(workshop: Workshop, path: str) -> list[str]:
    before, now = (
        decode(path, data).text.removesuffix("\n").split("\n")
        for data in (workshop.before(path), workshop.now(path))
    )
    names = f"before/{path}", f"fixed/{path}"
    lines = difflib.unified_diff(before, now, *names, n=1, lineterm="")
    return [line.expandtabs() for line in lines]


def section(found: Changes, clock: Callable[[int], str]) -> Iterator[str]:
    """Yield the lines of the report's section; `clock` shows a time in ms."""
    if not found.files and not found.remarks:
        return
    yield "## What was changed"
    if found.files:
        yield ""
        yield _verdict(found)
        yield ""
        header = ["File", "Agent", "Priority", "Asked", "Got it", "Token", "Waited for"]
        yield from markdown.table(header, _rows(found.files, clock))
    for words in found.remarks:
        yield ""
        yield markdown.text(words)
    if found.difference:
        yield ""
        yield f"Both wanted {markdown.code(found.files[0].path)} at the same time. It now reads:"
        yield ""
        shown = found.difference[:DIFFERENCE_LINES_MAX]
        rest = len(found.difference) - len(shown)
        yield from markdown.block([*shown, *([f"… {rest:,} more lines"] if rest else [])], "diff")


def _verdict(found: Changes) -> str:
    names = " and ".join(EDITS)
    count = f"{len(found.files):,} file" + ("" if len(found.files) == 1 else "s")
    text = f"{names} edited a scratch copy of {count}, one at a time each; your own are untouched."
    if found.lost:
        shown = ", ".join(markdown.code(path) for path in found.lost)
        return f"{text} **An edit is missing** in {shown}."
    return f"{text} Each file holds both edits: none was overwritten."


def _rows(files: Sequence[Change], clock: Callable[[int], str]) -> Iterator[list[str]]:
    for change in files:
        for turn in change.turns:
            yield [
                markdown.code(change.path),
                markdown.text(turn.agent),
                str(turn.priority),
                clock(turn.asked_ms),
                clock(turn.given_ms),
                str(turn.token),
                markdown.text(", ".join(turn.waited_for)) or "–",
            ]
