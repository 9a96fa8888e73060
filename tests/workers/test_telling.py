"""The hook is told of each question at least once, whatever happens to the workers meanwhile."""

import json
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fabric.core.record import EscalationRecord, EscalationState
from fabric.core.rules import Rules
from tests.support.waiting import eventually
from tests.workers.troubled import PARTITION, TroubledStore, working
from workers import telling

#: Writes what it is told to a file of its own, then waits until it may end.
PROGRAM = """
import pathlib, sys, time, uuid
folder = pathlib.Path(sys.argv[1])
(folder / f"{uuid.uuid4()}.part").write_bytes(sys.stdin.buffer.read())
for part in folder.glob("*.part"):
    part.rename(part.with_suffix(".told"))
while not (folder / "end").exists():
    time.sleep(0.01)
"""

TIMER = "s:hook:7-0"


@pytest.fixture
def rules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rules:
    monkeypatch.setattr(telling, "PAUSE_MS", 20)
    return Rules(hook=(sys.executable, "-c", PROGRAM, str(tmp_path)))


def asked() -> TroubledStore:
    """A session with an open question of which the hook is to be told."""
    store = TroubledStore()
    question = EscalationRecord(EscalationState.OPEN, "May I?", "A", context=msgspec.Raw(b"[1]"))
    keys = PARTITION.session("s")
    store.data.hash(keys.escalations)[b"7-0"] = msgspec.json.encode(question)
    store.data.sorted_set(PARTITION.deadlines)[TIMER.encode()] = 1
    return store


def told(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_bytes()) for path in folder.glob("*.told")]


async def test_a_question_is_told_and_its_timer_goes_when_that_is_over(
    tmp_path: Path, rules: Rules
) -> None:
    store = asked()
    async with working(store, rules=rules):
        await eventually(lambda: told(tmp_path), "the hook is told")
        commits = store.commits
        await eventually(lambda: store.commits > commits + 2, "it was put off several times")
        assert not await store.has_no_timer()
        (tmp_path / "end").touch()
        await eventually(store.has_no_timer, "the timer is gone")
    (document,) = told(tmp_path)
    assert (document["session"], document["id"], document["question"]) == ("s", "7-0", "May I?")
    assert (document["asker"], document["state"], document["context"]) == ("A", "open", [1])
    # It is no event of the session.
    assert store.log("s") == []


async def test_who_takes_over_tells_it_again(tmp_path: Path, rules: Rules) -> None:
    store = asked()
    async with working(store, rules=rules) as work:
        await eventually(lambda: told(tmp_path), "the hook is told")
        for handler in work.handlers:
            await handler.close()
    async with working(TroubledStore(store.data), rules=rules):
        await eventually(lambda: len(told(tmp_path)) == 2, "it is told again")
        (tmp_path / "end").touch()
        await eventually(store.has_no_timer, "the timer is gone")


async def test_without_a_hook_or_a_question_nothing_is_left_to_do(rules: Rules) -> None:
    for chosen, field in ((Rules(), b"7-0"), (rules, b"another")):
        store = asked()
        questions = store.data.hash(PARTITION.session("s").escalations)
        questions[field] = questions.pop(b"7-0")
        async with working(store, rules=chosen):
            await eventually(store.has_no_timer, "the timer is gone")
