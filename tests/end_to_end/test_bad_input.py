"""Bad entries in the ingress get a reason, and the worker goes on with the next signal."""

import itertools
import random

import pytest
from msgspec import json

from tests.support.daemon import Daemon
from tests.support.keyspace import DEAD, SIGNALS, Row, client, rows, session
from tests.support.servers import RunningServer
from tests.support.waiting import until

pytestmark = pytest.mark.server

Place = tuple[RunningServer, Daemon]
Fields = dict[bytes, bytes]

_numbers = itertools.count(1)


def put(place: Place, fields: Fields | list[bytes]) -> bytes:
    """XADD an entry; return its id."""
    flat = fields
    if isinstance(fields, dict):
        flat = [part for pair in fields.items() for part in pair]
    with client(place[0]) as asking:
        entry_id: bytes = asking.execute_command("XADD", SIGNALS, "*", *flat)
    return entry_id


def letter_of(place: Place, entry_id: bytes) -> Row:
    """Return the dead letter of an entry, once the worker has handled a good signal after it."""
    server, daemon = place
    name = f"good-{next(_numbers)}"
    put(place, {b"session": name.encode(), b"type": b"PROGRESS", b"emitter": b"G"})
    until(lambda: rows(server, session(name).log), daemon.said)
    (letter,) = rows(server, DEAD, id=entry_id.decode())
    return letter


def given(**fields: str | bytes) -> Fields:
    """Return a valid signal with the given changes."""
    signal = {"session": "demo", "type": "PROGRESS", "emitter": "A", **fields}
    return {
        name.encode(): value.encode() if isinstance(value, str) else value
        for name, value in signal.items()
    }


def without(name: str) -> Fields:
    return {field: value for field, value in given().items() if field != name.encode()}


DEEP = b'{"partial":' + b"[" * 10_000 + b"]" * 10_000 + b"}"

#: Entries of the ingress → code and words of the reason.
CASES: dict[str, tuple[Fields, str, tuple[str, ...]]] = {
    "not JSON": (given(payload="{percent: 25"), "JSON", ("payload", "{percent: 25")),
    "a list for an object": (given(payload="[1, 2]"), "VALUE", ("payload", "[1, 2]")),
    "half a character": (given(payload=b'{"percent": "\xc3"}'), "VALUE", ("payload", "UTF-8")),
    "10 MB": (
        given(payload=b'{"partial": "%s"}' % (b"x" * 10_000_000)),
        "LIMIT",
        ("payload", "10000015", "1048576 bytes"),
    ),
    "10,000 deep": (given(payload=DEEP), "LIMIT", ("10001", "64 levels")),
    "10,000 open": (given(payload=b"[" * 10_000), "LIMIT", ("10000", "64 levels")),
    "unknown type": (given(type="PROGRES"), "TYPE", ("type", "PROGRES", "PROGRESS", "ESCALATE")),
    "no type": (without("type"), "MISSING", ("type",)),
    "no session": (without("session"), "MISSING", ("session", "a name")),
    "empty session": (given(session=""), "MISSING", ("session",)),
    "no emitter": (without("emitter"), "MISSING", ("emitter",)),
    "control characters": (given(emitter="A\x1b[2J\n"), "NAME", ("emitter", "printable")),
    "a session with a colon": (given(session="a:log"), "NAME", ("session", "a:log")),
    "a long name": (given(emitter="A" * 513), "LIMIT", ("emitter", "513", "512 characters")),
    "percent 250": (given(payload='{"percent": 250}'), "VALUE", ("percent", "250", "100")),
    "percent 250 in short": (given(type="PROGRESS(250%)"), "VALUE", ("percent", "250", "100")),
    "percent in words": (given(payload='{"percent": "half"}'), "VALUE", ("percent", "half")),
    "blocked on nothing": (given(type="BLOCKED"), "MISSING", ("on", "BLOCKED")),
    "two values": (given(signal="FAILED"), "AMBIGUOUS", ("type",)),
    "a number below": (given(seq="-1"), "NUMBER", ("seq", "-1")),
    "a number beyond": (given(incarnation="9" * 30), "NUMBER", ("incarnation",)),
    "no time": (given(at="yesterday"), "TIME", ("at", "yesterday", "RFC 3339")),
    "a long trace": (given(trace="x" * 5_000), "LIMIT", ("trace", "5000", "4096 bytes")),
}


@pytest.mark.parametrize("name", CASES)
def test_a_bad_entry_gets_a_reason(place: Place, name: str) -> None:
    fields, code, words = CASES[name]
    letter = letter_of(place, put(place, fields))
    assert letter["code"] == code, letter["reason"]
    for word in words:
        assert word in letter["reason"]
    assert len(letter["reason"]) < 1_000
    assert letter["reason"].isprintable()
    assert letter["source"] == SIGNALS
    kept = {field: value for field, value in letter.fields.items() if field.startswith("raw.")}
    assert kept == {
        f"raw.{field.decode()}": value.decode("utf-8", "backslashreplace")
        for field, value in fields.items()
    }


def test_five_thousand_fields(place: Place) -> None:
    flat = [b"session", b"demo", b"type", b"PROGRESS", b"emitter", b"A"]
    for number in range(5_000):
        flat += (b"field-%d" % number, b"%d" % number)
    letter = letter_of(place, put(place, flat))
    assert letter["code"] == "LIMIT"
    assert "5003" in letter["reason"]
    assert "64 fields" in letter["reason"]
    assert "raw" in letter.fields


def test_the_same_field_twice(place: Place) -> None:
    flat = [b"session", b"demo", b"type", b"PROGRESS", b"emitter", b"A", b"emitter", b"B"]
    letter = letter_of(place, put(place, flat))
    assert letter["code"] == "AMBIGUOUS"
    assert "emitter" in letter["reason"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "field", ["session", "type", "emitter", "stream", "payload", "at", "seq", "incarnation",
              "task", "trace", "sig", "partial", "signal"]
)  # fmt: skip
def test_binary_noise_in_a_field(place: Place, field: str) -> None:
    """Noise is refused; in a field that the fabric keeps without reading, it may pass."""
    chance = random.Random(field)
    for _ in range(5):
        noise = chance.randbytes(chance.randint(1, 300)) + b"\xff"
        entry_id = put(place, {**given(session="noise"), field.encode(): noise})
        if field in ("trace", "sig"):
            continue
        letter = letter_of(place, entry_id)
        assert letter["code"] in {"JSON", "VALUE", "TYPE", "NAME", "NUMBER", "TIME", "AMBIGUOUS"}
        assert letter["reason"].isprintable()


def test_noise_throughout(place: Place) -> None:
    chance = random.Random(7)
    for _ in range(200):
        flat = [chance.randbytes(chance.randint(0, 40)) for _ in range(2 * chance.randint(1, 12))]
        entry_id = put(place, flat)
    assert letter_of(place, entry_id)["code"] in {"MISSING", "VALUE", "NAME", "AMBIGUOUS"}


def test_a_signal_with_more_consequences_than_a_commit_can_hold(place: Place) -> None:
    """A thousand copies of a megabyte are too much for one commit."""
    payload = {
        "dependency_id": "x",
        "consumers": [f"agent-{number}" for number in range(1_000)],
        "blob": "x" * 1_000_000,
    }
    entry_id = put(place, given(type="DEPENDENCY_RESOLVED", payload=json.encode(payload)))
    letter = letter_of(place, entry_id)
    assert letter["code"] == "LIMIT"
    assert "1000 messages of" in letter["reason"]
