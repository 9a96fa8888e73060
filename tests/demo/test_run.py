"""Running the fleet: what is seen of it, and what is not waited for."""

import asyncio
import sys
from itertools import product
from typing import cast

import pytest

from fabric.demo import run as running
from fabric.demo.board import Board
from fabric.demo.fleet import FLEET
from fabric.demo.run import _follow, _outcome
from fabric.store.keys import Namespace
from fabric.store.port import ClientStore, Entry

KEYS = Namespace().partition(0).session("demo")

KILLED = "import os; os.kill(os.getpid(), 9)"


def outcome_of(program: str) -> str:
    async def run() -> str:
        return await _outcome(
            await asyncio.create_subprocess_exec(
                sys.executable, "-c", program, stderr=asyncio.subprocess.PIPE
            )
        )

    return asyncio.run(run())


def test_a_silent_death_is_an_outcome_too() -> None:
    assert outcome_of(KILLED) == "an agent ended without a word (exit code -9)\n"
    assert outcome_of("import sys; sys.exit('why')") == "why\n"
    assert outcome_of("import sys; sys.stderr.write('a warning')") == ""


class Streams:
    """A store whose two streams hold everything from the start."""

    def __init__(self, log: list[Entry], revisions: list[Entry]) -> None:
        self._held = {KEYS.log: log, KEYS.revisions: revisions}

    async def read_streams(
        self, after: dict[str, bytes], count: int, block_ms: int
    ) -> dict[str, list[Entry]]:
        return {
            key: [one for one in self._held[key] if number(one[0]) > number(place)][:count]
            for key, place in after.items()
        }


def number(entry_id: bytes) -> int:
    return int(entry_id.partition(b"-")[0])


def followed(log: list[Entry]) -> Board:
    """What is seen when the first revision is the final one, and there from the start."""
    patch = b'[{"op":"add","path":"","value":{"complete":{}}}]'
    flat = [b"patch", patch, b"causes", b"1-0", b"ms", b"5", b"final", b"1"]
    board = Board()
    store = cast("ClientStore", Streams(log, [(b"1-0", flat)]))
    asyncio.run(_follow(store, KEYS, board, lambda board, rows: None))
    return board


def signals(*words: str) -> list[Entry]:
    return [
        (
            b"%d-0" % n,
            [b"kind", b"signal", b"type", word.encode(), b"emitter", member.name.encode(),
             b"ms", b"%d" % n, b"payload", b"{}"],
        )
        for n, (word, member) in enumerate(product(words, FLEET), 1)
    ]  # fmt: skip


def test_who_had_ended_when_a_revision_was_seen_is_known_by_the_log(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log = signals("STARTED", "COMPLETED")
    (point,) = followed(log).growth.points
    assert (point.begun, point.ended) == (9, 9)
    # A page of the log that is full may not be all of it.
    monkeypatch.setattr(running, "PAGE", 5)
    (point,) = followed(log).growth.points
    assert (point.begun, point.ended) == (9, 9)
