"""The loop's answer to every doubt: discard memory, and go on from the last commit."""

import asyncio
import logging
from typing import Any

import pytest

from fabric.core.event import Decision
from fabric.core.rules import Rules
from fabric.core.session import SessionState
from fabric.core.signal import Signal
from fabric.core.step import step
from fabric.errors import FencedError, ServerError, UnavailableError, UnreachableError
from fabric.store.keys import ORCHESTRATORS
from tests.support.waiting import eventually
from tests.workers.troubled import PARTITION, TroubledStore, working
from workers import orchestrator

OTHER_MS = 50


async def result(store: TroubledStore, number: int, session: str = "s") -> None:
    await store.say(session, "A", "PARTIAL_RESULT", f'{{"partial": {{"n": {number}}}}}')


def results(store: TroubledStore) -> list[str]:
    return [row["payload"] for row in store.rows(PARTITION.results)]


def expected(count: int) -> list[str]:
    return [f'{{"partial": {{"n": {number}}}}}' for number in range(count)]


@pytest.mark.parametrize("is_done", [False, True], ids=["refused", "reply-lost"])
@pytest.mark.parametrize(
    "error",
    [FencedError("somebody else's"), UnreachableError("cut"), UnavailableError("loading")],
    ids=lambda error: error.code,
)
async def test_a_commit_fails(error: ServerError, is_done: bool) -> None:
    store = TroubledStore()
    async with working(store, batch_signals_max=4):
        for number in range(40):
            await result(store, number)
            if number % 10 == 5:
                store.trouble("commit", error, is_done=is_done)
        await eventually(store.is_settled, "all are through")
        assert not store.is_troubled
    assert results(store) == expected(40)
    assert store.log("s") == [f"{n}-0 PARTIAL_RESULT" for n in range(1, 41)]


@pytest.mark.parametrize("is_done", [False, True], ids=["refused", "reply-lost"])
async def test_a_commit_fails_while_the_next_batch_is_decided(is_done: bool) -> None:
    store = TroubledStore()
    async with working(store) as work:
        store.gate.clear()
        await result(store, 0)
        await eventually(lambda: store.under_way == 1, "a commit is under way")
        await result(store, 1)
        await eventually(lambda: len(work.decided) == 2, "the next is decided")
        store.trouble("commit", UnreachableError("cut"), is_done=is_done)
        store.gate.set()
        await eventually(store.is_settled, "all are through")
    assert results(store) == expected(2)


async def test_a_failed_commit_is_noticed_without_another_signal() -> None:
    store = TroubledStore()
    async with working(store, block_ms=30_000):
        store.trouble("commit", UnreachableError("cut"))
        await result(store, 0)
        await eventually(store.is_settled, "it is through")
    assert results(store) == expected(1)


@pytest.mark.parametrize("call", ["hashes", "read", "due", "acquire", "beat", "partitions"])
async def test_another_call_fails(call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = TroubledStore()
    for name in ("acquire", "beat", "partitions"):
        _make_fallible(store, name, monkeypatch)
    store.trouble(call, UnreachableError("cut"))
    store.trouble(call, UnavailableError("loading"))
    async with working(store):
        await result(store, 0)
        await result(store, 1)
        await eventually(store.is_settled, "all are through")
        await eventually(lambda: not store.is_troubled, "both errors were met")
    assert results(store) == expected(2)


def _make_fallible(store: TroubledStore, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    original = getattr(store, name)

    async def call(*arguments: Any) -> Any:
        store._next(name, is_done=False)
        return await original(*arguments)

    monkeypatch.setattr(store, name, call)


async def test_a_spoilt_session_waits_in_dead_and_the_others_go_on() -> None:
    store = TroubledStore()
    log = PARTITION.session("spoilt").log
    async with working(store):
        await result(store, 0, "spoilt")
        await eventually(store.is_settled, "the session is in memory")
        store.data.keys[log] = ("string", b"by hand")
        for number in range(4):
            await result(store, number, "spoilt")
            await result(store, number, "sound")
        await eventually(store.is_settled, "all are through")
    assert store.log("sound") == [f"{n}-0 PARTIAL_RESULT" for n in (1, 2, 3, 4)]
    letters = store.rows(PARTITION.dead)
    assert [row["code"] for row in letters] == ["TAMPERED"] * 4
    assert all(log in row["reason"] for row in letters)
    assert results(store)[0] == expected(1)[0]
    assert len(results(store)) == 5


async def test_a_session_that_was_put_right_is_heard_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("workers.handler.QUARANTINE_MS", OTHER_MS)
    store = TroubledStore()
    log = PARTITION.session("s").log
    store.data.keys[log] = ("string", b"by hand")
    async with working(store):
        await result(store, 0)
        await eventually(lambda: store.rows(PARTITION.dead), "it is left out")
        del store.data.keys[log]

        async def is_heard() -> bool:
            await result(store, 1)
            return bool(store.log("s"))

        await eventually(is_heard, "it is heard again")


async def test_the_first_signal_after_a_long_quarantine_is_heard(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Time alone ends the quarantine; no signal is needed."""
    monkeypatch.setattr("workers.handler.QUARANTINE_MS", 0)
    store = TroubledStore()
    log = PARTITION.session("s").log
    store.data.keys[log] = ("string", b"by hand")
    async with working(store):
        await result(store, 0)
        await eventually(lambda: store.rows(PARTITION.dead), "it is left out")
        await eventually(store.is_settled, "it is left out")
        del store.data.keys[log]
        await result(store, 1)
        await eventually(store.is_settled, "it is through")
    assert store.log("s") == ["1-0 PARTIAL_RESULT"]
    assert len(store.rows(PARTITION.dead)) == 1


async def test_a_timer_of_a_spoilt_session_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.handler.QUARANTINE_MS", OTHER_MS)
    store = TroubledStore()
    inbox = PARTITION.session("s").inbox("A")
    async with working(store, rules=Rules(undeclared_grace_ms=1)):
        store.data.keys[inbox] = ("string", b"by hand")
        await store.say("s", "A", "BLOCKED", '{"on": "x"}')
        await eventually(lambda: store.log("s") == ["1-0 RULES", "2-0 BLOCKED"], "A waits")
        await result(store, 0, "other")
        await eventually(store.is_settled, "the other session goes on")
        del store.data.keys[inbox]
        await eventually(lambda: store.rows(inbox), "A is told at last")


async def test_a_defect_of_the_rules_stops_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def failing(session: SessionState, signal: Signal, rules: Rules, now_ms: int) -> Decision:
        decision = step(session, signal, rules, now_ms)
        if signal.emitter == "FATAL":
            raise ZeroDivisionError("a defect")
        return decision

    monkeypatch.setattr(orchestrator, "step", failing)
    store = TroubledStore()
    async with working(store):
        await result(store, 0)
        await store.say("s", "FATAL", "PROGRESS")
        await result(store, 1)
        await eventually(store.is_settled, "all are through")
    assert store.log("s") == ["1-0 PARTIAL_RESULT", "2-0 PARTIAL_RESULT"]
    (letter,) = store.rows(PARTITION.dead)
    assert letter["code"] == "DEFECT"
    assert letter["raw.emitter"] == "FATAL"
    assert "ZeroDivisionError" in letter["reason"]
    assert "a defect" in caplog.text


async def test_a_defect_in_a_timer_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def fire(*_: object) -> Decision:
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr(orchestrator, "fire", fire)
    store = TroubledStore()
    async with working(store, rules=Rules(undeclared_grace_ms=1)):
        await store.say("s", "A", "BLOCKED", '{"on": "x"}')
        await eventually(store.is_settled, "A waits")
        await eventually(store.has_no_timer, "the timer is gone")
        await result(store, 0)
        await eventually(store.is_settled, "signals go on")
    assert store.log("s") == ["1-0 RULES", "2-0 BLOCKED", "3-0 PARTIAL_RESULT"]


async def test_an_unforeseen_error_ends_no_worker(
    caplog: pytest.LogCaptureFixture,
) -> None:
    store = TroubledStore()
    store.trouble("read", ZeroDivisionError("nobody foresaw it"))
    async with working(store, lease_ms=200):
        await result(store, 0)
        await eventually(store.is_settled, "it is through")
    assert "internal error" in caplog.text
    assert results(store) == expected(1)


async def test_a_commit_that_never_works_raises_one_alarm(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The lease is taken each time; that alone does not count as working again."""
    store = TroubledStore()
    with caplog.at_level(logging.WARNING, "fabric.alarm"):
        async with working(store):
            for _ in range(4):
                store.trouble("commit", UnreachableError("cut"))
            await result(store, 0)
            await eventually(store.is_settled, "it is through at last")
    alarms = [record.message for record in caplog.records if "ALARM" in record.message]
    assert len(alarms) == 1
    assert any("works again after 4 failures" in record.message for record in caplog.records)


async def test_a_cancelled_worker_ends_at_once_though_the_server_does_not_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As after a second SIGTERM."""
    store = TroubledStore()

    async def never(*_: object) -> None:
        await asyncio.Event().wait()

    async with working(store) as work:
        await result(store, 0)
        await eventually(store.is_settled, "it is at work")
        for call in ("renew", "release", "leave", "commit"):
            monkeypatch.setattr(store, call, never)
        await result(store, 1)
        work.running.cancel()
        await eventually(work.running.done, "it has ended")
        assert work.running.cancelled()
        work.running = asyncio.create_task(asyncio.sleep(0))
    assert store.data.hash(PARTITION.lease(ORCHESTRATORS))[b"owner"] == b"replica"
