"""Results that stand where nobody reads them are refused: they would be lost without a word."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from fabric.core.signal import SignalType
from fabric.errors import SignalError
from fabric.wire.entry import decode

FINDINGS = [{"key": "k", "value": 1}]
DOCUMENT = {"findings": FINDINGS}

#: What a payload of these types needs besides.
NEEDED: dict[str, dict[str, Any]] = {
    "PROGRESS": {"percent": 5},
    "PARTIAL_RESULT": {"partial": DOCUMENT},
    "BLOCKED": {"on": "d"},
    "FAILED": {"error": "e"},
    "CHECKPOINT_REACHED": {"checkpoint": "c"},
    "INTENT": {"writes": ["f"]},
}


def entry(kind: str, payload: dict[str, Any]) -> list[bytes]:
    body = msgspec.json.encode(NEEDED.get(kind, {}) | payload)
    fields = {"session": b"s", "type": kind.encode(), "emitter": b"A", "payload": body}
    return [item for name, value in fields.items() for item in (name.encode(), value)]


ALL = ["STARTED", "HEARTBEAT", "COMPLETED", *NEEDED]


@pytest.mark.parametrize("kind", ALL)
def test_findings_beside_a_document_are_refused_by_name(kind: str) -> None:
    with pytest.raises(SignalError, match=r"findings: got .* in `partial` of PARTIAL_RESULT"):
        decode(entry(kind, {"findings": FINDINGS}))
    decode(entry(kind, {"findings": None}))


@pytest.mark.parametrize("kind", sorted({*ALL} - {"COMPLETED", "PROGRESS", "PARTIAL_RESULT"}))
def test_a_signal_that_gives_no_results_takes_no_partial(kind: str) -> None:
    with pytest.raises(SignalError, match=r"partial: got .* in `partial` of PARTIAL_RESULT"):
        decode(entry(kind, {"partial": DOCUMENT}))


@pytest.mark.parametrize("kind", ["COMPLETED", "PROGRESS", "PARTIAL_RESULT"])
def test_one_signal_gives_one_of_the_two(kind: str) -> None:
    with pytest.raises(SignalError, match=r"result: got .* one of the two"):
        decode(entry(kind, {"partial": DOCUMENT, "result": {"x": 1}}))
    decode(entry(kind, {"partial": DOCUMENT, "result": None}))


@pytest.mark.parametrize(
    "delta", [{"$add": "3"}, {"$add": None}, {"$add": True}, {"$append": "x"}, {"$text": 5},
              {"$append": ["x"], "$remove": "y"}, {"$total": [1]}],
)  # fmt: skip
def test_a_change_that_cannot_be_made_is_refused_by_name(delta: dict[str, Any]) -> None:
    for field in ("partial", "result"):
        payload = {"partial": None, field: {"findings": [], "a": [delta], "b": {"c": delta}}}
        with pytest.raises(SignalError, match=rf"{field}\.b\.c: got .* \$\w+ takes a "):
            decode(entry("COMPLETED", payload))
    # Its own words, an item of a list, a log entry of before: all of it is kept.
    for partial in ({"$add": "3"}, {"a": {"$add": "3", "unit": "s"}}, {"a": [delta]}):
        decode(entry("PARTIAL_RESULT", {"partial": partial}))
    decode(entry("PARTIAL_RESULT", {"partial": {"a": delta}}), is_logged=True)


def test_the_count_of_findings_is_none() -> None:
    decode(entry("SYNTHESIZED", {"revision": 1, "findings": 3}))


@pytest.mark.parametrize("kind", ALL)
def test_what_an_older_version_has_logged_is_still_read(kind: str) -> None:
    signal = decode(entry(kind, {"findings": FINDINGS, "result": 1}), is_logged=True)
    assert signal.type is SignalType(kind)
