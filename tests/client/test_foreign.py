"""Entries that people write by hand: read as far as possible, or named in an error."""

import msgspec
import pytest

from fabric.client.emitter import Emitter
from fabric.client.session import Session
from fabric.errors import DivergedError, NotAllowedError, TamperedError
from fabric.ops.dead_letters import DeadLetters
from fabric.ops.replay import rebuild
from fabric.ops.script import Inbox
from fabric.ops.why.explanation import why
from fabric.store.keys import Namespace
from fabric.store.port import BEGINNING
from fabric.store.value import parse_cursor, parse_id
from fabric.testing.store import MemoryStore

PARTITION = Namespace().partition(0)
KEYS = PARTITION.session("s")

#: Not an entry's id: the server would refuse it forever.
NO_IDS = [b"", b"x", b"-", b"-1", b"1-", b"1_0-0", b"1 -0", b"+1-0", "\u0661-0".encode(), b"1-0-0"]
BEYOND = [b"99999999999999999999-0", b"0-18446744073709551616", b"9" * 5_000]


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore(lambda: 1)


@pytest.mark.parametrize("text", [*NO_IDS, *BEYOND], ids=lambda text: repr(text[:25]))
def test_a_stored_place_that_is_not_an_id_is_ignored(text: bytes) -> None:
    """With a place that no server accepts, the agent would receive nothing more."""
    with pytest.raises(ValueError, match="id"):
        parse_id(text)
    assert parse_cursor(text + b" 0-0 ") == [BEGINNING, BEGINNING]


@pytest.mark.parametrize(
    "text", [b"0", b"7", b"007-1", b"18446744073709551615-18446744073709551615"]
)
def test_an_id_is_two_numbers_of_64_bits_or_one(text: bytes) -> None:
    milliseconds, _, sequence = text.partition(b"-")
    assert parse_id(text) == (int(milliseconds), int(sequence or 0))


async def test_a_message_that_is_not_text_is_shown_as_far_as_possible(store: MemoryStore) -> None:
    store.data.stream(KEYS.inbox("A")).append(b"1-1", [b"type", b"\xff", b"payload", b'"\xff"'], 1)
    inbox = Inbox(store, KEYS, "A")
    pages = [page async for page, _ in inbox.pages([BEGINNING, BEGINNING])]
    assert [message.payload for message in pages[0]] == [{"payload": '"\ufffd"'}]


@pytest.mark.parametrize("raw", [b"", b"\xc1", b"\x91\xc4\x01x", b"\x93", b"\x90"])
async def test_a_dead_letter_without_an_entry_is_listed_and_not_sent(
    store: MemoryStore, raw: bytes
) -> None:
    fields = [b"raw", raw, b"source", PARTITION.signals.encode()]
    store.data.stream(PARTITION.dead).append(b"1-0", fields, 1)
    letters = DeadLetters(store, 1)
    found = [letter async for letter in letters.newest()]
    assert [letter.fields for letter in found] == [[]]

    def emitter(partition: int) -> Emitter:
        return Emitter(store, partition, ingress_max=10, limit_ms=0)

    with pytest.raises(NotAllowedError, match="contains no signal"):
        await letters.retry(found, emitter)


@pytest.mark.parametrize("ms", [b"9" * 19, b"9" * 5_000], ids=len)
async def test_a_log_of_another_version_diverges(store: MemoryStore, ms: bytes) -> None:
    heartbeat = [b"session", b"s", b"type", b"HEARTBEAT", b"emitter", b"A"]
    entry = [b"kind", b"signal", *heartbeat, b"ms", ms]
    store.data.stream(KEYS.log).append(b"1-0", entry, 1)
    with pytest.raises(DivergedError, match="a time in its field ms"):
        await rebuild(store, KEYS)
    with pytest.raises(DivergedError):
        await why(store, KEYS, "A")


async def test_rules_in_a_log_that_are_not_text_diverge(store: MemoryStore) -> None:
    entry = [b"kind", b"rules", b"type", b"RULES", b"payload", b'"\xff"', b"ms", b"1"]
    store.data.stream(KEYS.log).append(b"1-0", entry, 1)
    with pytest.raises(DivergedError, match="rules"):
        await rebuild(store, KEYS)


@pytest.mark.parametrize("value", [b'{"status":"\xff"}', b"[" * 100_000, b"{}"], ids=len)
async def test_a_record_that_cannot_be_read_is_named(store: MemoryStore, value: bytes) -> None:
    store.data.hash(KEYS.tasks)[b"t"] = value
    with pytest.raises(TamperedError, match=KEYS.tasks.replace("{", r"\{")):
        await Session(store, KEYS).tasks()
    assert msgspec.json.encode(await Session(store, KEYS).agents()) == b"{}"


@pytest.mark.parametrize("name", [b"6:A", b"5:B"])
async def test_a_claim_under_another_name_is_named(store: MemoryStore, name: bytes) -> None:
    """Nobody who looks for it by its id would find it."""
    claim = b'{"agent":"A","state":"held","writes":["a"],"asked":5}'
    store.data.hash(KEYS.claims)[b"5:A"] = claim
    assert list(await Session(store, KEYS).claims()) == ["5:A"]
    store.data.hash(KEYS.claims)[name] = claim
    with pytest.raises(TamperedError, match=KEYS.claims.replace("{", r"\{")):
        await Session(store, KEYS).claims()
