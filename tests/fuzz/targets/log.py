"""A session's log that anybody may have written: shown, replayed, explained, or called diverged.

Nothing in it controls the terminal, and every entry is one line of bounded length.
"""

from __future__ import annotations

import json
import re
from contextlib import suppress

from fabric.cli.log import entry_document, row_line
from fabric.cli.output import json_line
from fabric.errors import DivergedError, ExhaustedError, NotFoundError
from fabric.ops.replay import rebuild
from fabric.ops.why.explanation import explanation_lines, why
from fabric.ops.why.snapshot import LogIndex
from fabric.testing.store import MemoryStore
from fabric.view.text import CELL_CHARS_MAX
from fabric.view.timeline import RowMerger, Timeline
from tests.fuzz.entry_bytes import entries, packed
from tests.fuzz.targets import ingress, worker
from tests.fuzz.targets.worker import KEYS
from tests.fuzz.tokens import FIELDS, FRAME, HOSTILE, TYPES
from tests.support.immediate import run_now

ANSWERS: tuple[type[Exception], ...] = ()
WORDS = [
    *(*FRAME, *FIELDS, *TYPES, b"kind", b"signal", b"derived", b"directive", b"refused", b"rules"),
    *(
        b"ms",
        b"cause",
        b"to",
        b"from",
        b"code",
        b"reason",
        b"timer",
        b"RESUME",
        b"PROCEED",
        b"WAIT",
    ),
    *(b"PAUSE", b"NUDGE", b"ASSIGN", b"CANCEL", b"DECISION", b"NOTICE", b"TIMER", b"RULES", b"id"),
    *HOSTILE,
]

#: Characters that control a terminal: C0, C1, DEL. JSON output is for programs and may hold others.
_MOVES = re.compile(r"[\x00-\x1f\x7f-\x9f]")

#: Agents that `why` explains.
_ASKED = ("A", "B", "*", "")


def seeds() -> list[bytes]:
    """Return the logs that a worker writes for the seeds of the ingress target."""
    found = []
    for data in ingress.seeds():
        work = worker.Work(data[0])
        for flat in entries(data[1:]):
            work.send(flat)
        log = run_now(work.store.entries(KEYS.log, b"-", b"+", 1_000))
        found.append(packed([[b"id", entry_id, *flat] for entry_id, flat in log]))
    return list(dict.fromkeys(filter(None, found)))


def run(data: bytes) -> None:
    """Write entries into a log, and read it in every way."""
    store = MemoryStore(lambda: 1)
    stream = store.data.stream(KEYS.log)
    for number, flat in enumerate(entries(data), 1):
        entry_id = b"%d-0" % number
        if flat[0] == b"id" and len(flat) > 2 and worker.is_id(flat[1]):
            entry_id, flat = flat[1], flat[2:]
        with suppress(ExhaustedError):  # not after the last one: a server refuses it, too
            stream.append(entry_id, flat, 1)
    log = run_now(store.entries(KEYS.log, b"-", b"+", 1_000))
    _show(log)
    for name in _ASKED:
        try:
            answer = run_now(why(store, KEYS, name))
            assert all(line.isprintable() for line in explanation_lines(answer))
        except (DivergedError, NotFoundError) as error:
            assert len(str(error)) < 5_000
    try:
        assert run_now(rebuild(store, KEYS)).session.log
    except (DivergedError, NotFoundError) as error:
        assert len(str(error)) < 5_000
    log_index = LogIndex()
    for entry in log:
        log_index.take(entry)
    for name in _ASKED:
        assert all(fact.words.isprintable() for fact in log_index.history(name))


def _show(log: list[tuple[bytes, list[bytes]]]) -> None:
    timeline, merger = Timeline(), RowMerger()
    rows = [row for entry in log if (row := timeline.row(*entry)) is not None]
    for row in [*rows, *merger.feed(rows), *merger.flush()]:
        line = row_line(row, 0)
        assert line.isprintable(), line
        assert len(line) < 5 * CELL_CHARS_MAX
    for entry in log:
        line = json_line(entry_document(entry))
        assert json.loads(line)
        assert not _MOVES.search(line), line
