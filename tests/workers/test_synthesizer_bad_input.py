"""Spoilt keys, and entries that are no results: refused, with the reason."""

import pytest

from fabric.client.emitter import Emitter
from fabric.ops.dead_letters import DeadLetters
from fabric.wire.stored import fields_of
from tests.support.folding import entry
from tests.support.waiting import eventually
from tests.workers.folding import (
    KEYS,
    TIMERS,
    expected,
    folded,
    folding,
    of,
    outcome,
    part,
    put,
    rows,
)
from tests.workers.test_synthesizer import STORY, finding
from tests.workers.test_synthesizer_trouble import MANY, SWEPT, logs
from tests.workers.troubled import PARTITION, TroubledStore


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("findings:k1", b"{"),
        ("agents:A", b"[]"),
        ("revision", b"many"),
        ("complete", b'{"agents": "all"}'),
    ],
)
async def test_a_session_with_a_spoilt_field_waits_in_dead_and_the_others_go_on(
    field: str, value: bytes
) -> None:
    store = TroubledStore()
    async with folding(store):
        await put(store, MANY[:1])
        await folded(store)
    store.data.hash(KEYS.synthesis)[field.encode()] = value
    store.data.hash(KEYS.synthesis).setdefault(b"revision", b"1")
    async with folding(store):
        for fields in MANY[:8]:
            await put(store, [fields, of("sound", fields)])
        await folded(store)
    letters = await rows(store, PARTITION.dead)
    assert {row["code"] for row in letters} == {"TAMPERED"}
    assert {row["raw.session"] for row in letters} == {"demo"}
    assert {row["source"] for row in letters} == {PARTITION.results}
    assert all(KEYS.synthesis in row["reason"] for row in letters)
    assert len(letters) == 8
    sound = await outcome(store, "sound")
    assert logs(sound.causes) == list(range(1, 9))


@pytest.mark.parametrize("key", [KEYS.synthesis, KEYS.revisions, KEYS.said("A")])
async def test_a_key_of_the_wrong_type_keeps_its_session_out_alone(key: str) -> None:
    store = TroubledStore()
    store.data.keys[key] = ("string", b"by hand")
    async with folding(store):
        await put(store, [MANY[1], of("sound", MANY[1])])
        await folded(store)
    (letter,) = await rows(store, PARTITION.dead)
    assert (letter["code"], letter["raw.session"]) == ("TAMPERED", "demo")
    assert key in letter["reason"]
    assert (await outcome(store, "sound")).causes == [[2]]


def _with(fields: list[bytes], **changed: str) -> list[bytes]:
    known = fields_of(fields)
    known |= {name.encode(): value.encode() for name, value in changed.items()}
    return [item for pair in known.items() for item in pair]


@pytest.mark.parametrize(
    "fields",
    [
        [b"by", b"hand"],
        _with(MANY[0], session="a:b"),
        _with(MANY[0], type="NONSENSE"),
        _with(MANY[0], emitter=""),
        _with(MANY[0], cause="soon"),
        _with(MANY[0], ms="-1"),
        _with(MANY[0], incarnation="one"),
        _with(MANY[0], percent="many"),
        _with(MANY[0], payload="{"),
        _with(MANY[0], payload="[1]"),
        _with(MANY[0], payload='{"partial": {"findings": [{"value": 1}]}}'),
        _with(MANY[0], payload='{"partial": {"findings": 7}}'),
        _with(MANY[0], payload='{"partial": ' + "[" * 1_000 + "]" * 1_000 + "}"),
        _with(MANY[0], payload='{"partial": "' + "x" * 5_000_000 + '"}'),
        _with(MANY[0], type="DECIDED"),
        _with(
            MANY[0],
            type="DECIDED",
            payload='{"part":"nonsense","decision":"A","by":"me","chosen":"0","rejected":[]}',
        ),
        _with(
            MANY[0],
            type="DECIDED",
            payload='{"part":"agents:A","decision":"A","by":"me","chosen":"0","rejected":[]}',
        ),
        _with(MANY[0], type="REFINED", payload="{}"),
    ],
    ids=range(18),
)
async def test_an_entry_that_is_no_result_goes_to_dead(fields: list[bytes]) -> None:
    store = TroubledStore()
    async with folding(store):
        store.data.stream(PARTITION.results).append(b"*", fields, 1)
        store.data.wake()
        await put(store, MANY)
        await folded(store)
    (letter,) = await rows(store, PARTITION.dead)
    assert letter["source"] == PARTITION.results
    assert letter["code"]
    assert letter["reason"]
    assert (await outcome(store)).content() == expected(MANY)


async def test_keys_that_a_pointer_escapes_are_folded() -> None:
    store = TroubledStore()
    odd = {"a/b": 1, "a~b": 2, "": {"": 3}, "n\0ul": 4, "~2=x": [1, {"=": None}], "null": None}
    entries = [entry("A", 1, {**odd, **finding("k/~", None)}), entry("B", 2, odd)]
    async with folding(store):
        await put(store, entries)
        await folded(store)
    assert await rows(store, PARTITION.dead) == []
    assert (await outcome(store)).content() == expected(entries)


async def test_members_of_an_index_that_were_added_by_hand_stop_no_sweep(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = TroubledStore()
    async with folding(store):
        await put(store, SWEPT[:2])
        await folded(store)
        index = store.data.sorted_set(KEYS.said("A"))
        index |= {b"hand": 0, b"findings:gone": 0, b"agents:A": 0}
        await put(store, [*SWEPT[2:], of("sound", SWEPT[0])])
        await eventually(store.is_folded, "all are taken")
        await eventually(lambda: part(store, "findings:k0", "sound"), "the others go on")


async def test_a_refused_result_is_folded_when_it_is_sent_again() -> None:
    store = TroubledStore()
    store.data.keys[KEYS.said("A")] = ("string", b"by hand")
    dead = DeadLetters(store, 1)

    def emitter(partition: int) -> Emitter:
        return Emitter(store, partition, ingress_max=100, limit_ms=1_000)

    async with folding(store):
        await put(store, STORY[:4])
        await folded(store)
    letters = [letter async for letter in dead.newest()]
    assert [letter.source for letter in letters] == [PARTITION.results] * 4
    del store.data.keys[KEYS.said("A")]
    async with folding(store):
        await put(store, STORY[4:])
        await folded(store)
        await dead.retry(letters, emitter)
        await folded(store)
    assert await dead.count() == 0
    assert await rows(store, PARTITION.dead) == []
    assert (await outcome(store)).content() == expected(STORY)


@pytest.mark.parametrize(
    ("index", "sweep"),
    [
        ([b"findings:k1", b"nothing:x"], b'{"within":[""]}'),
        ([b"sweep:A"], b'{"within":[""]}'),
        ([], b"{}"),
        ([b"\xff"], b'{"within":[""]}'),
    ],
)
async def test_a_spoilt_index_keeps_its_session_out_alone(index: list[bytes], sweep: bytes) -> None:
    """A sweep reads the index to find the parts to judge, whoever has written to it since."""
    store = TroubledStore()
    async with folding(store):
        await put(store, MANY[:1])
        await folded(store)
    store.data.hash(KEYS.synthesis)[b"sweep:A"] = sweep
    store.data.sorted_set(KEYS.said("A")).update(dict.fromkeys(index, 0))
    store.data.sorted_set(TIMERS)[b"demo:sweep:A"] = 0
    async with folding(store):
        await put(store, [of("sound", MANY[0])])

        async def is_folded() -> bool:
            return bool(store.data.hash(PARTITION.session("sound").synthesis))

        async def is_put_off() -> bool:
            return store.data.sorted_set(TIMERS)[b"demo:sweep:A"] > 0

        await eventually(is_folded, "the other session goes on")
        await eventually(is_put_off, "the sweep waits")
