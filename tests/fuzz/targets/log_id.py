"""Log ids from outside: stored cursors, `--since`, `--until`, ids of dead letters.

An id that is accepted is one that every server accepts.
"""

from __future__ import annotations

import click

from fabric.cli.connect import log_id
from fabric.errors import CallerError, NotFoundError
from fabric.ops.dead_letters import DeadLetters
from fabric.ops.replay import until
from fabric.store.value import SEQUENCE_MAX, parse_cursor
from fabric.testing.store import MemoryStore
from tests.fuzz.tokens import HOSTILE
from tests.support.immediate import run_now

ANSWERS: tuple[type[Exception], ...] = ()
WORDS = [
    b"0-0",
    b"12-3",
    b" ",
    b"18446744073709551615-18446744073709551615",
    b"-",
    b":",
    b"/",
    *HOSTILE,
]

_OPTION = click.Option(["--since"])
_CONTEXT = click.Context(click.Command("fuzz"))


def seeds() -> list[bytes]:
    """Return ids of each kind."""
    return [b"12-0 3-1", b"7", b"7-2", b"1:05", b"2025-12-30T19:30:00Z", b"0/17-1", b"9-9 9"]


def run(data: bytes) -> None:
    """Read an id in every way."""
    for entry_id in parse_cursor(data):
        _check(entry_id)
    text = data.decode("utf-8", "surrogateescape")
    try:
        since = log_id(_CONTEXT, _OPTION, text)
    except click.BadParameter as error:
        assert len(str(error)) < 3 * len(data) + 1_000
    else:
        assert since is not None
        _check(since)
    try:
        stop = until(text)
    except CallerError as error:
        assert len(str(error)) < 6 * len(data) + 1_000
    else:
        assert stop.is_before(2**53, 2**53, 0) in (True, False)
    try:
        run_now(DeadLetters(MemoryStore(lambda: 1), 2).find([text]))
    except (CallerError, NotFoundError) as error:
        assert len(str(error)) < 3 * len(data) + 1_000


def _check(entry_id: bytes) -> None:
    """Check that a server takes an id: one or two numbers of 64 bits."""
    assert entry_id.isascii()
    parts = entry_id.split(b"-")
    assert 1 <= len(parts) <= 2, entry_id
    for part in parts:
        assert part.isdigit(), entry_id
        assert int(part) <= SEQUENCE_MAX, entry_id
