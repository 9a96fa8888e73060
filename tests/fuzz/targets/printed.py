"""Text from outside, as it is printed: it never controls the terminal or leaves its column."""

from __future__ import annotations

from contextlib import suppress

from fabric.core.task import TaskRecord, TaskStatus
from fabric.ops.why.snapshot import line
from fabric.view import markdown
from fabric.view.status import todo
from fabric.view.text import cell, joined, plain, table
from fabric.wire import signal_error
from fabric.wire.stored import printable, shortened
from tests.fuzz.tokens import HOSTILE

ANSWERS: tuple[type[Exception], ...] = ()
WORDS = [
    b"`",
    b"|",
    b"\\",
    b"```",
    b"<b>",
    b"](",
    b"http://",
    b"www.",
    b"\n# ",
    b"1. ",
    b"_",
    *HOSTILE,
]


def seeds() -> list[bytes]:
    """Return texts that people write."""
    return [
        b"Review `auth` module",
        "naïve | text\nwith [links](x) and www.x.y, über_all".encode(),
        b"# heading\n* item `` ` ``\n<script>",
    ]


def run(data: bytes) -> None:
    """Print a text in every way."""
    texts = {data.decode("utf-8", "surrogateescape")}
    with suppress(UnicodeDecodeError):
        texts.add(data.decode("utf-8", "surrogatepass"))
    for text in sorted(texts):
        _look(text)


def _look(text: str) -> None:
    lines = [
        *(markdown.text(text), markdown.prose(text), markdown.code(text), plain(text), cell(text)),
        *(line(text), printable(text), signal_error.shown(text), signal_error.shown_name(text)),
        *markdown.folded(text, []),
        *markdown.table(["a"], [[markdown.code(text)], [markdown.text(text)]]),
        *table(["a", "b"], [[text, "x"]]),
        shortened(printable(text), 20),
        joined([cell(text)] * 3),
    ]
    for one in lines:
        assert one.isprintable(), one
    # In code a tab is kept: it is part of what a reader copies.
    code = [*markdown.block(text.split("\n"), "x"), *markdown.paragraphs(text)]
    for one in (*code, *markdown.trusted(text)):
        assert one.replace("\t", "").isprintable(), one
    fence, *inside, last = markdown.block(text.split("\n"))
    assert not any(one.startswith(fence) for one in inside)
    assert last == fence
    assert len(markdown.code(text)) <= 10 * len(text) * 2 + 4
    assert todo(TaskRecord(text, TaskStatus.PENDING))["content"] == text
