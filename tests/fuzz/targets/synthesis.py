"""A synthesis in Redis that others have written to: read and shown, or called tampered with."""

from __future__ import annotations

from typing import Any

from fabric.client.session import Session
from fabric.errors import NotFoundError, TamperedError
from fabric.store.synthesis import DECODERS
from fabric.testing.store import MemoryStore
from fabric.view.change import changes
from fabric.view.report import report
from fabric.view.synthesis import Synthesis
from tests.fuzz.entry_bytes import entries, flattened, hashed, packed
from tests.fuzz.tokens import FRAME, HOSTILE
from tests.support.folding import KEYS, Folding, entry
from tests.support.immediate import collect_now, run_now

ANSWERS: tuple[type[Exception], ...] = ()
WORDS = [
    *(
        *FRAME,
        *(f"{section}:".encode() for section in DECODERS),
        b"revision",
        b"complete",
        b"patch",
    ),
    *(b"causes", b"ms", b"final", b'"op":"add"', b'"op":"remove"', b'"op":"move"', b'"from":'),
    *(b'"path":"/findings/port"', b'"path":""', b'"value":{}', b'"op":"test"', b'"op":"copy"'),
    *(b'"state":"agreed"', b'"said":{}', b'"verdict":', b'"values":[]', b'"log":1', b'"standing":'),
    *HOSTILE,
]


def seeds() -> list[bytes]:
    """Return syntheses as the fabric writes them: the hash, then revisions."""
    found = []
    partials: list[list[Any]] = [
        [{"findings": [{"key": "port", "value": 1}]}, {"findings": [{"key": "port", "value": 2}]}],
        [{"a": {"b": [1, 2]}}, {"a": {"b": [3]}, "n": 1}, {"n": 2, "findings": []}],
    ]
    for series in partials:
        folding = Folding()
        for number, partial in enumerate(series):
            folding.take([entry("AB"[number % 2], number + 1, partial, percent=50)])
        stored = flattened({name.encode(): value for name, value in folding.hash.items()})
        log = [
            [b"patch", patch, b"causes", b"1-0", b"ms", b"5", b"final", b"0"]
            for patch in folding.revisions
        ]
        found.append(packed([stored, *log]))
    return found


def run(data: bytes) -> None:
    """Read a synthesis: the first entry is its hash, the others are its revisions."""
    first, *others = entries(data)
    store = MemoryStore(lambda: 1)
    store.data.hash(KEYS.synthesis).update(hashed(first))
    stream = store.data.stream(KEYS.revisions)
    for number, flat in enumerate(others, 1):
        stream.append(b"%d-0" % number, flat, 1)
    session = Session(store, KEYS)
    for reading in (session.synthesis(), session.synthesis(revision=len(others))):
        try:
            _show(run_now(reading))
        except (TamperedError, NotFoundError) as error:
            assert len(str(error)) < 100_000
    try:
        for revision in collect_now(session.revisions(follow=False)):
            for line in changes(revision.number, revision.patch, is_final=revision.is_final):
                assert line.isprintable(), line
    except (TamperedError, NotFoundError) as error:
        assert len(str(error)) < 100_000


def _show(synthesis: Synthesis) -> None:
    for line in report(synthesis, "demo"):
        assert line.isprintable(), line
