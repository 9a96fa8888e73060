"""What retention lets go, with both workers; what is at work, and every log, stays whole."""

from typing import Any

import pytest

from fabric.core.rules import Rules
from fabric.core.signal import SignalType
from fabric.ops.comparison import Comparison
from fabric.store.keys import ORCHESTRATORS, Namespace
from fabric.testing import InProcessFabric, running
from workers import retention

#: Times in which nothing goes by its age.
LONG_MS = 10_000_000


def left(fabric: InProcessFabric, session: str) -> list[str]:
    return sorted(key for key in fabric.memory.data.keys if f"}}:{session}:" in key)


def sessions(fabric: InProcessFabric) -> set[str]:
    known = fabric.memory.data.peek("fabric:{0}:sessions", "zset") or {}
    return {name.decode() for name in known}


def meta(fabric: InProcessFabric, session: str = "test") -> dict[bytes, bytes]:
    return dict(fabric.memory.data.peek(f"fabric:{{0}}:{session}:meta", "hash") or {})


async def say(fabric: InProcessFabric, kind: str, by: str = "eva", **payload: Any) -> None:
    await fabric.emit([{"type": kind, "emitter": by, "payload": payload}])
    await fabric.settle()


async def work(fabric: InProcessFabric, session: str, *, ends: bool = True) -> None:
    finding = {"partial": {"findings": [{"key": "k", "value": 1}]}}
    by_a: dict[str, Any] = {"emitter": "A", "session": session}
    signals = [
        {"type": "STARTED", **by_a},
        {"type": "PARTIAL_RESULT", **by_a, "payload": finding},
        *([{"type": "COMPLETED", **by_a}] if ends else []),
    ]
    await fabric.emit(signals)
    await fabric.settle()


async def is_same(fabric: InProcessFabric, session: str = "test") -> bool:
    report = await Comparison(fabric.store, fabric.session(session).keys).run()
    assert report.differences == []
    return True


async def test_ended_sessions_go_by_age_and_those_at_work_stay() -> None:
    rules = Rules(ended_ms=600_000, silence_ms_max=LONG_MS, silence_ms_min=LONG_MS)
    async with running(rules) as fabric:
        await work(fabric, "old")
        await work(fabric, "busy", ends=False)
        await fabric.advance(400)
        await work(fabric, "young")
        await fabric.advance(300)
        assert sessions(fabric) == {"busy", "young"}
        assert left(fabric, "old") == []
        assert await is_same(fabric, "busy")
        assert await is_same(fabric, "young")
        await work(fabric, "old")
        assert (await fabric.log("old"))[0]["id"] == "1-0"
        assert await is_same(fabric, "old")


async def test_of_too_many_sessions_the_least_recent_go_that_are_done() -> None:
    rules = Rules(sessions_max=3, recent_ms=120_000, silence_ms_max=LONG_MS, silence_ms_min=LONG_MS)
    async with running(rules) as fabric:
        await work(fabric, "busy", ends=False)
        # Its agent has ended, and a question still waits for an answer.
        asked = {"question": "Which?", "wait": False}
        signal = {"type": "ESCALATE", "emitter": "A", "session": "asked", "payload": asked}
        await fabric.emit([signal])
        await work(fabric, "asked")
        for number in range(5):
            await work(fabric, f"s{number}")
            await fabric.advance(1)
        assert len(sessions(fabric)) == 7
        await fabric.advance(240)
        assert sessions(fabric) == {"busy", "asked", "s2", "s3", "s4"}


async def opened(fabric: InProcessFabric, session: str, **payload: Any) -> None:
    signal = {"type": "RUN_OPENED", "emitter": "eva", "session": session, "payload": payload}
    await fabric.emit([signal])
    await fabric.settle()


async def test_a_run_stays_until_the_deadline_of_those_it_expects() -> None:
    rules = Rules(ended_ms=600_000, silence_ms_max=LONG_MS, silence_ms_min=LONG_MS)
    async with running(rules) as fabric:
        await opened(fabric, "awaited", expect=["A", "B"], deadline_ms=2_000_000)
        await work(fabric, "awaited")
        await opened(fabric, "unbounded", expect=["A", "B"])
        await opened(fabric, "empty")
        await fabric.advance(500)
        assert sessions(fabric) == {"awaited", "unbounded", "empty"}
        # Without a deadline nobody says when to give it up: its age does, as that of any other.
        await fabric.advance(200)
        assert sessions(fabric) == {"awaited"}
        await fabric.advance(1_200)
        assert sessions(fabric) == {"awaited"}
        assert await is_same(fabric, "awaited")
        # Its age counts from the deadline, which is an event.
        await fabric.advance(500)
        assert sessions(fabric) == {"awaited"}
        await fabric.advance(300)
        assert sessions(fabric) == set()


async def test_of_too_many_sessions_none_goes_that_waits_for_somebody() -> None:
    rules = Rules(sessions_max=1, recent_ms=120_000, silence_ms_max=LONG_MS, silence_ms_min=LONG_MS)
    async with running(rules) as fabric:
        await opened(fabric, "awaited", expect=["A", "B"], deadline_ms=2_000_000)
        await opened(fabric, "unbounded", expect=["A", "B"])
        await opened(fabric, "empty")
        for name in ("awaited", "unbounded", "done"):
            await work(fabric, name)
        await fabric.advance(1)
        await work(fabric, "last")
        await fabric.advance(300)
        assert sessions(fabric) == {"awaited", "unbounded", "last"}


async def many(fabric: InProcessFabric, count: int) -> None:
    await fabric.emit(
        {"type": kind, "emitter": "A", "session": f"s{number}"}
        for number in range(count)
        for kind in ("STARTED", "COMPLETED")
    )
    await fabric.settle()


@pytest.mark.parametrize("leaving_max", [500, 30])
async def test_all_that_have_ended_go_in_one_look_however_many_there_are(
    leaving_max: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "LEAVING_MAX", leaving_max, raising=False)
    async with running(Rules(sessions_max=1, recent_ms=1_000)) as fabric:
        await many(fabric, 100)
        # One look, and some seconds in which it is repeated while many are on their way out.
        await fabric.advance(70)
        assert len(sessions(fabric)) == 1
        assert await fabric.dead_letters() == []


async def test_what_was_marked_in_a_commit_that_failed_is_marked_again() -> None:
    names = Namespace().partition(0)
    async with running(Rules(sessions_max=1, recent_ms=1_000)) as fabric:
        await many(fabric, 3)
        await fabric.advance(5)
        look = retention.Retention(fabric.memory, names, Rules(sessions_max=1, recent_ms=1_000))
        now_ms = await fabric.store.now_ms()
        for _ in range(2):
            marked: list[str] = []
            for _ in range(3):
                marked += (await look.prepare(b":retention", now_ms)).ended
            assert marked == ["s0", "s1"]
            look.forget()


@pytest.mark.parametrize(("read_events", "steps_max"), [(1_000, 3), (0, 7)])
async def test_a_look_takes_few_steps_however_many_sessions_there_are(
    read_events: int, steps_max: int
) -> None:
    """Each step is a commit between two batches of signals."""
    rules = Rules(read_events=read_events)
    async with running(rules) as fabric:
        look = retention.Retention(fabric.memory, Namespace().partition(0), rules)
        await many(fabric, 200)
        for number in range(200):
            keys = fabric.session(f"s{number}").keys
            await fabric.store.set_cursor(keys.cursors, "A", b"2-1 0-0")
        now_ms, cut = await fabric.store.now_ms(), 0
        for _ in range(2):
            look.active = {f"s{number}": 3 for number in range(200)}
            steps, is_over = 0, False
            while not is_over:
                step = await look.prepare(b":retention", now_ms)
                steps, cut, is_over = steps + 1, cut + len(step.cuts), step.is_over
            assert steps <= steps_max
        assert cut == (0 if read_events else 200)


async def test_messages_that_were_read_go_and_the_last_one_stays() -> None:
    async with running(Rules(read_events=10)) as fabric:
        async with fabric.agent("A", produces=["x"]), fabric.agent("B") as b:
            for number in range(30):
                await b.emit(
                    SignalType.ESCALATE, {"question": f"q{number}", "to": "A", "wait": False}
                )
            await fabric.settle()
            before = await fabric.store.length(fabric.session().keys.inbox("A"))
            await fabric.store.set_cursor(fabric.session().keys.cursors, "A", b"20-1 0-0")
            await fabric.advance(61)
            key = fabric.session().keys.inbox("A")
            first = await fabric.store.entries(key, b"-", b"+", 1)
            assert first[0][0] >= b"20-"
            assert await fabric.store.length(key) < before
        await fabric.settle()
        assert int(meta(fabric)[b"cut_read"]) >= 20
        assert await is_same(fabric)


async def test_an_inbox_that_nobody_reads_is_bounded_in_bytes_and_entries() -> None:
    rules = Rules(inbox_bytes=1_048_576, inbox_max=1_000)
    async with running(rules) as fabric:
        async with fabric.agent("A"), fabric.agent("B") as b:
            for number in range(30):
                question = {"question": f"{number}", "context": {"x": "y" * 100_000}}
                await b.emit(SignalType.ESCALATE, {**question, "to": "A", "wait": False})
            await fabric.settle()
            key = fabric.session().keys.inbox("A")
            assert await fabric.store.length(key) >= 30
            await fabric.advance(61)
            kept = await fabric.store.entries(key, b"-", b"+", 1_000)
            assert sum(len(b"".join(fields)) for _, fields in kept) < 1_048_576
            assert 8 <= len(kept) < 15
            assert meta(fabric)[b"cut:inbox:A"] == kept[0][0]
        await fabric.settle()
        assert await is_same(fabric)


async def test_dead_letters_go_by_bytes_and_by_age() -> None:
    async with running(Rules(dead_bytes=1_048_576, dead_ms=600_000)) as fabric:
        await fabric.emit([{"type": "PROGRESS", "emitter": "A", "payload": {"percent": 1}}])
        partition = fabric.store.namespace.partition(0)
        entry = [b"session", b"test", b"type", b"NONE", b"emitter", b"A", b"x", b"y" * 100_000]
        for _ in range(30):
            await fabric.store.emit(0, [entry], 10_000)
        await fabric.settle()
        assert await fabric.store.length(partition.dead) == 30
        await fabric.advance(61)
        kept = await fabric.store.length(partition.dead)
        assert 5 < kept < 11
        lease = fabric.memory.data.peek(partition.lease(ORCHESTRATORS), "hash")
        assert lease[b"cut_dead"]
        await fabric.advance(700)
        assert await fabric.store.length(partition.dead) == 0


async def test_old_revisions_go_and_the_synthesis_stays() -> None:
    async with running(Rules(revisions_max=100)) as fabric:
        async with fabric.agent("A") as a:
            for number in range(300):
                await a.partial_result({"findings": [{"key": f"k{number}", "value": 1}]})
                await fabric.settle()
        await fabric.advance(61)
        first = await fabric.store.entries(fabric.session().keys.revisions, b"-", b"+", 1)
        assert int(first[0][0].partition(b"-")[0]) > 128
        found = await fabric.session().synthesis()
        assert (len(found.findings), found.is_final) == (300, True)
        assert int(meta(fabric)[b"cut_revisions"]) == int(first[0][0].partition(b"-")[0])


async def test_a_token_of_a_deleted_session_is_never_handed_out_again() -> None:
    async with running() as fabric:
        tokens = []
        for _ in range(3):
            async with fabric.agent("A") as a, a.writing("x.py") as grant:
                tokens.append(grant.token)
            await say(fabric, "RUN_PURGED")
            assert left(fabric, "test") == []
        assert tokens == sorted(set(tokens))
        async with fabric.agent("A") as a, a.writing("x.py"):
            pass
        assert (await fabric.log())[0]["type"] == "TOKENS"
        assert await is_same(fabric)


async def test_an_incarnation_of_a_deleted_session_is_never_handed_out_again() -> None:
    async with running() as fabric:
        handed = []
        for number in range(3):
            async with fabric.agent("A") as a:
                handed.append(a.incarnation)
            # A process that has its number, and has said nothing yet.
            handed.append(await fabric.store.enroll(0, "test", "A"))
            await say(fabric, "RUN_CLOSED" if number % 2 else "RUN_PURGED")
            await say(fabric, "RUN_PURGED")
            assert left(fabric, "test") == []
        assert handed == sorted(set(handed))
        async with fabric.agent("A") as a:
            # What an earlier process still sends does not take effect.
            old = {"emitter": "A", "incarnation": handed[-1], "seq": 9}
            await fabric.emit([{"type": "PROGRESS", "payload": {"percent": 1}, **old}])
            await fabric.settle()
            assert a.incarnation > handed[-1]
        letters = [one.code for one in await fabric.dead_letters()]
        assert letters.count("STALE_INCARNATION") == 1
        assert await is_same(fabric)


@pytest.mark.parametrize("agents_max", [50])
async def test_agents_that_have_ended_make_room(agents_max: int) -> None:
    async with running(f"[limits]\nagents_max = {agents_max}\n") as fabric:
        for number in range(agents_max + 10):
            async with fabric.agent(f"A{number}"):
                pass
        assert await fabric.dead_letters() == []
        # Its name stays refused as stale.
        await fabric.emit([{"type": "PROGRESS", "emitter": "A0", "incarnation": 1, "payload": {}}])
        await fabric.settle()
        (letter,) = await fabric.dead_letters()
        assert letter.code == "STALE_INCARNATION"
