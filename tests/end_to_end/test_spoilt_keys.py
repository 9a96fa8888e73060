"""After somebody overwrites a key, that session's signals wait in `dead`; other sessions go on."""

import itertools
import json
import re
from collections.abc import Callable

import pytest

from fabric.client.fabric import Fabric
from fabric.errors import TamperedError
from fabric.store.keys import SessionKeys
from tests.support.daemon import Daemon, StartDaemon
from tests.support.keyspace import (
    DEAD,
    RESULTS,
    SIGNALS,
    add,
    is_settled,
    records,
    rows,
    session,
    values,
)
from tests.support.servers import RunningServer
from tests.support.waiting import eventually, until

pytestmark = pytest.mark.usefixtures("tampering")

SPOILT = session("spoilt")
SOUND = session("sound")

Place = tuple[RunningServer, Daemon]

_numbers = itertools.count(1)

#: Every key of a session that the orchestrator reads or writes.
KEYS: dict[str, Callable[[SessionKeys], str]] = {
    "meta": lambda keys: keys.meta,
    "agents": lambda keys: keys.agents,
    "tasks": lambda keys: keys.tasks,
    "dependencies": lambda keys: keys.dependencies,
    "log": lambda keys: keys.log,
    "broadcast": lambda keys: keys.broadcast,
    "inbox": lambda keys: keys.inbox("B"),
}


@pytest.fixture
def orchestrator(server: RunningServer, daemon: StartDaemon) -> Daemon:
    return daemon(server.url)


def speak(server: RunningServer, name: str) -> None:
    """Send signals that together write to every key of the session."""
    for emitter, kind, payload in (
        ("A", "STARTED", {"task": "T", "produces": ["x"]}),
        ("B", "STARTED", {}),
        ("A", "PROGRESS", {"percent": 10}),
        ("A", "CHECKPOINT_REACHED", {"checkpoint": "c"}),
        ("B", "BLOCKED", {"on": "x"}),
        ("A", "DEPENDENCY_RESOLVED", {"dependency_id": "x"}),
    ):
        add(server, session=name, type=kind, emitter=emitter, payload=json.dumps(payload))


def settle(place: Place) -> None:
    """Wait until all signals are handled, with a whole conversation in another session."""
    server, daemon = place
    name = f"sound-{next(_numbers)}"
    speak(server, name)
    until(lambda: len(rows(server, session(name).log, kind="signal")) == 6, daemon.said)
    until(lambda: is_settled(server), daemon.said)
    assert records(server, session(name).agents)["B"]["status"] == "active"


@pytest.mark.server
@pytest.mark.parametrize("which", KEYS)
@pytest.mark.parametrize("is_in_memory", [True, False], ids=["in-memory", "not-read-yet"])
def test_a_key_of_a_session_has_another_type(place: Place, which: str, is_in_memory: bool) -> None:
    server, daemon = place
    name = f"spoilt-{next(_numbers)}"
    key = KEYS[which](session(name))
    if is_in_memory:
        add(server, session=name, type="PROGRESS", emitter="A")
        settle(place)
    server.cli("DEL", key)
    server.cli("SET", key, "by hand")
    speak(server, name)
    settle(place)

    assert server.cli("GET", key) == "by hand"
    letters = rows(server, DEAD, **{"raw.session": name})
    assert letters
    for row in letters:
        assert row["code"] == "TAMPERED"
        assert f"key {key} is a string" in row["reason"]
    assert f"key {key} is a string" in daemon.said()


@pytest.mark.server
def test_a_record_is_not_what_the_fabric_writes(place: Place) -> None:
    server, _ = place
    name = f"spoilt-{next(_numbers)}"
    server.cli("HSET", session(name).agents, "A", "not JSON")
    speak(server, name)
    settle(place)
    letters = rows(server, DEAD, **{"raw.session": name})
    assert len(letters) == 6
    assert all(session(name).agents in row["reason"] for row in letters)
    assert rows(server, session(name).log) == []


@pytest.mark.server
def test_a_number_that_no_score_can_hold(place: Place) -> None:
    """The server would fail on it in the middle of every commit."""
    server, _ = place
    name = f"spoilt-{next(_numbers)}"
    claim = {"agent": "B", "state": "waiting", "writes": ["a"], "rank_ms": int("9" * 400)}
    server.cli("HSET", session(name).claims, "1:B", json.dumps(claim))
    add(server, session=name, type="INTENT", emitter="A", payload='{"writes":["a"]}')
    settle(place)
    (letter,) = rows(server, DEAD, **{"raw.session": name})
    assert session(name).claims in letter["reason"]


@pytest.mark.server
def test_a_foreign_entry_in_the_log_stops_nothing(place: Place) -> None:
    """After an id beyond our range, new entries get ids beyond it too; nothing is lost."""
    server, _ = place
    name = f"spoilt-{next(_numbers)}"
    server.cli("XADD", session(name).log, "*", "note", "by hand")
    speak(server, name)
    settle(place)
    assert len(rows(server, session(name).log, kind="signal")) == 6
    assert rows(server, DEAD, **{"raw.session": name}) == []


@pytest.mark.parametrize("key", [RESULTS, DEAD])
def test_a_key_of_the_partition_stops_it_until_the_key_is_gone(
    server: RunningServer, orchestrator: Daemon, key: str
) -> None:
    server.cli("SET", key, "by hand")
    add(server, session="demo", type="PARTIAL_RESULT", emitter="A", payload='{"partial": {}}')
    add(server, session="demo", type="NOTHING", emitter="A")
    orchestrator.hear("ALARM")
    orchestrator.hear(f"key {key} is a string")
    assert server.cli("XLEN", SIGNALS) == 2
    server.cli("RENAME", key, "elsewhere")
    until(lambda: is_settled(server), orchestrator.said)
    assert len(rows(server, RESULTS)) == 1
    assert len(rows(server, DEAD)) == 1
    orchestrator.hear("works again")


def test_the_ingress_itself(server: RunningServer, daemon: StartDaemon) -> None:
    server.cli("SET", SIGNALS, "by hand")
    orchestrator = daemon(server.url)
    orchestrator.hear("ALARM")
    orchestrator.hear(SIGNALS)
    server.cli("DEL", SIGNALS)
    add(server, session="demo", type="PROGRESS", emitter="A")
    until(lambda: rows(server, session("demo").log), orchestrator.said)


@pytest.mark.parametrize("which", ["cursors", "incarnations", "inbox"])
async def test_keys_that_the_client_reads(server: RunningServer, which: str) -> None:
    keys = {
        "cursors": SPOILT.cursors,
        "incarnations": SPOILT.incarnations,
        "inbox": SPOILT.inbox("A"),
    }
    key = keys[which]
    server.cli("SET", key, "by hand")
    async with Fabric.connect(server.url) as fabric:
        with pytest.raises(TamperedError, match=re.escape(f"key {key} is a string")) as caught:
            async with fabric.agent("A", session="spoilt"):
                pass
    assert caught.value.key == key
    assert server.cli("XLEN", SIGNALS) == 0


async def test_an_inbox_that_is_overwritten_under_an_agent_is_logged(
    server: RunningServer, orchestrator: Daemon, caplog: pytest.LogCaptureFixture
) -> None:
    async with Fabric.connect(server.url) as fabric, fabric.agent("A", session="spoilt") as agent:
        await agent.ready()  # the orchestrator writes nothing there from now on
        server.cli("SET", SPOILT.inbox("A"), "by hand")
        server.cli("CLIENT", "KILL", "SKIPME", "yes")  # a blocked read on it sees no change
        await eventually(lambda: SPOILT.inbox("A") in caplog.text, "it says so")
        server.cli("DEL", SPOILT.inbox("A"))
        await agent.resolve("x", consumers=["A"])
        assert await agent.wait_for("x", timeout=20) is None


def test_the_synthesis(server: RunningServer, orchestrator: Daemon, daemon: StartDaemon) -> None:
    synthesizer = daemon(server.url, worker="synthesizer")
    server.cli("SET", SPOILT.synthesis, "by hand")
    for name in ("spoilt", "sound"):
        add(server, session=name, type="PARTIAL_RESULT", emitter="A", payload='{"partial": {}}')
    until(lambda: values(server, SOUND.synthesis), synthesizer.said)
    synthesizer.hear(SPOILT.synthesis)
    assert server.cli("GET", SPOILT.synthesis) == "by hand"
