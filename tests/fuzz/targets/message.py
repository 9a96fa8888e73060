"""Entries of an inbox, a broadcast stream or the dead letters; anybody may have written them.

Each is shown on one line and as JSON; a dead letter gives back the entry that it holds, or reports
that it holds none.
"""

from __future__ import annotations

import json

from fabric.cli.agent import message_json, message_line
from fabric.cli.dead import letter_row
from fabric.errors import NotAllowedError, TamperedError
from fabric.ops.dead_letters import DeadLetters
from fabric.ops.script import Inbox
from fabric.testing.store import MemoryStore
from tests.fuzz.entry_bytes import entries, packed
from tests.fuzz.targets.worker import KEYS, PARTITION
from tests.fuzz.tokens import FIELDS, FRAME, HOSTILE, TYPES
from tests.support.entry import dead_letter
from tests.support.immediate import collect_now, run_now

ANSWERS: tuple[type[Exception], ...] = ()
WORDS = [
    *(*FRAME, *FIELDS, *TYPES, b"from", b"cause", b"code", b"reason", b"source", b"id", b"raw"),
    *(b"raw.type", b"raw.session", b"raw.payload", b"raw.seq", b"hops", *HOSTILE),
]


def seeds() -> list[bytes]:
    """Return messages, and letters, as the fabric writes them."""
    refused = [b"type", b"NONSENSE", b"session", b"s", b"payload", b"{}"]
    many = [b"x", b"1"] * 70
    letters = [
        dead_letter(fields, "TYPE", "why not", PARTITION.signals) for fields in (refused, [], many)
    ]
    return [
        packed([["type", "RESUME", "from", "", "stream", "", "cause", "3-0", "payload", "{}"]]),
        packed([["type", "BLOCKED", "from", "B", "payload", '{"on":"x"}', "hops", "2"], *letters]),
        packed(letters),
    ]


def run(data: bytes) -> None:
    """Read entries as messages, then as dead letters."""
    store = MemoryStore(lambda: 1)
    for number, flat in enumerate(entries(data), 1):
        for key in (KEYS.inbox("A"), KEYS.broadcast, PARTITION.dead):
            store.data.stream(key).append(b"%d-1" % number, flat, 1)
    inbox = Inbox(store, KEYS, "A")
    for messages, _ in collect_now(inbox.pages([b"0-0", b"0-0"])):
        for message in messages:
            assert message_line(message).isprintable()
            assert json.loads(message_json(message))["id"] == message.id
    letters = DeadLetters(store, 1)
    try:
        for letter in collect_now(letters.newest()):
            assert letter.ms >= 0
            assert letter_row(letters, letter)
            run_now(letters.find([letter.id]))
            try:
                letters._reader(letter)
            except NotAllowedError:
                continue
    except TamperedError as error:
        assert PARTITION.dead in str(error)
