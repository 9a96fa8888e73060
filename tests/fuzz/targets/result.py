"""Entries of `results`: folded, published and patched; or a SignalError with the reason.

The patches, applied to an empty document, give the document, however the entries came in batches;
and all of it can be printed.
"""

from __future__ import annotations

import msgspec

from fabric.core.policy import RestartPolicy
from fabric.core.rule_table import Merge
from fabric.core.synthesis.merge import NUMBERS
from fabric.errors import SignalError
from fabric.view.change import changes
from fabric.view.report import report
from fabric.view.synthesis import Synthesis
from fabric.wire.result import decode, session_of
from tests.fuzz.entry_bytes import entries, packed
from tests.fuzz.tokens import FIELDS, FRAME, HOSTILE, TYPES
from tests.support.folding import Folding, entry

ANSWERS: tuple[type[Exception], ...] = ()
WORDS = [
    *(*FRAME, *FIELDS, *TYPES, b"cause", b"ms", b"silent", b"findings", b"key", b"value", b"part"),
    *(b"supersedes", b"withdrawn", b"confidence", b"evidence", b"chosen", b"rejected", b"by"),
    *(
        b"decision",
        b"refiner",
        b"revision",
        b"findings:port",
        b"document:/a",
        b"items:/a:",
        *HOSTILE,
    ),
]

#: Rules of the fold; the first byte selects one.
MERGES = (
    (),
    (Merge("/a", "agree"), Merge("/n", "mean"), Merge("/**", "last")),
    (Merge("/*", "max"), Merge("/a/**", "append"), Merge("/**/x", "by_source")),
)


def seeds() -> list[bytes]:
    """Return streams of results that touch every part of the fold."""
    found = {"findings": [{"key": "port", "value": 1, "evidence": "x", "confidence": 0.5}]}
    other = {"findings": [{"key": "port", "value": [2]}, {"key": "b", "supersedes": ["port"]}]}
    given = {"part": "findings:port", "decision": "A", "by": "a", "chosen": "x", "rejected": []}
    begun = entry("A", 1, kind="STARTED", payload={})
    again = entry("A", 9, kind="STARTED", incarnation=2, payload={})
    decided = entry("x", 4, kind="DECIDED", payload=given)
    refined = {"refiner": "R", "value": {"x": 1}, "revision": 1}
    streams = [
        [begun, entry("A", 2, found, percent=10), entry("B", 3, other)],
        [begun, entry("A", 2, {"a": {"b": [1, {"c": None}]}, "x/y~": 2.5, "": []})],
        [entry("A", 2, found), entry("B", 3, other), decided],
        [entry("A", 2, found), [b""], again, entry("A", 10, {"n": 1}, incarnation=2)],
        [entry("A", 1, {"n": [1, 2]}, kind="COMPLETED"), entry("B", 2, {"n": [3]})],
        [entry("B", 2, kind="FAILED", payload={"error": "e"}, silent=True), entry("A", 3, found)],
        [entry("R", 1, kind="REFINED", payload=refined), entry("A", 3, {"a": [1, 1, "x"]})],
    ]
    return [bytes([number]) + packed(stream) for number, stream in enumerate(streams)]


def run(data: bytes) -> None:
    """Fold entries; an entry without a value ends a batch."""
    chosen = data[0] if data else 0
    policy = (RestartPolicy.REPLACE, RestartPolicy.KEEP)[chosen % 2]
    merges = MERGES[chosen // 2 % len(MERGES)]
    whole, single = (Folding(policy, merges, NUMBERS) for _ in range(2))
    batch: list[list[bytes]] = []
    logs: list[int] = []
    for flat in entries(data[1:]):
        if flat == [b"", b""]:
            whole.take(batch)
            batch = []
        elif (log := _log_of(flat, whole)) is not None:
            logs.append(log)
            batch.append(flat)
            single.take([flat])
    whole.take(batch)
    for folding in (whole, single):
        _look_at(folding)
    if len(set(logs)) == len(logs):
        # A log id names one entry; if two entries share it, the order of batches matters.
        assert whole.content() == single.content(), "the same, however it came in batches"


def _log_of(flat: list[bytes], folding: Folding) -> int | None:
    """Return the log number of a result, or None."""
    try:
        session_of(flat)
        return decode(flat, folding.strategies.of).origin.log
    except SignalError as error:
        assert str(error).isprintable(), "a refusal is one line"
        return None


def _look_at(folding: Folding) -> None:
    document = folding.document()
    assert folding.patched() == document
    synthesis = Synthesis(document)
    lines = report(synthesis, "demo")
    for number, patch in enumerate(folding.revisions, 1):
        lines += changes(number, msgspec.json.decode(patch), is_final=False)
    for line in lines:
        assert line.isprintable(), line
