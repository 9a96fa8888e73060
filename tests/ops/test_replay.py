"""A session rebuilt from its log, as it is now and as it was."""

import pytest

from fabric.core.record import AgentStatus
from fabric.core.rules import Rules
from fabric.errors import CallerError, DivergedError, NotFoundError
from fabric.ops.comparison import Comparison
from fabric.ops.replay import Replay, Until, rebuild, until
from fabric.store.port import Entry
from tests.ops.stored_session import RULES, S, compared, compared_session, reading, say, settled
from tests.support.in_process import serving
from tests.support.keyspace import rows, values
from tests.support.servers import RunningServer
from tests.support.waiting import eventually


async def test_replay_gives_what_redis_has(server: RunningServer) -> None:
    report = await compared_session(server)
    assert report.differences == []
    assert report.events == int(values(server, S.meta)["log"])
    refused = rows(server, S.log, kind="refused")
    assert [row["code"] for row in refused] == ["VALUE", "ENDED", "STALE_INCARNATION"]
    # Whole: what a refused signal has changed can be found out again.
    assert (refused[1]["seq"], refused[1].payload) == ("5", {"percent": 1})


async def test_the_first_false_log_entry_is_named(server: RunningServer) -> None:
    await compared_session(server)
    told = rows(server, S.log, type="RESUME")[0]
    server.cli("XDEL", S.log, told.id)
    (one,) = (await compared(server)).differences
    assert (one.key, one.field) == (S.log, told.id)
    server.cli("XDEL", S.log, "1-0")
    async with reading(server) as store:
        with pytest.raises(DivergedError, match="1-0"):
            await rebuild(store, S)


async def test_each_entry_has_its_own_place(server: RunningServer) -> None:
    """Two that say the same: which of them is missing?"""
    say(server, "A", "BLOCKED", {"on": "x"})
    say(server, "A", "BLOCKED", {"on": "y"})
    async with serving(server.url):
        await settled(server)
        say(server, "B", "INTEGRATION_REQUIRED", {"name": "m"})
        await settled(server)
    told = [row for row in rows(server, S.log) if row.id.startswith("3-")]
    assert len(told) > 2
    server.cli("XDEL", S.log, told[1].id)
    (one,) = (await compared(server)).differences
    assert (one.key, one.field) == (S.log, told[1].id)


async def test_other_rules_half_way(server: RunningServer) -> None:
    others = Rules(undeclared_grace_ms=30, agents_max=3)
    for number, rules in enumerate((None, RULES, others, None)):
        async with serving(server.url, rules=rules):
            for name in ("A", "B", f"agent {number}"):
                say(server, name, "BLOCKED", {"on": f"thing {number} of {name}"})
            await settled(server)
            if rules is not None:
                await eventually(
                    lambda n=number: any(  # type: ignore[misc] # a default, for this turn's number
                        f"thing {n}" in row["timer"] for row in rows(server, S.log, type="TIMER")
                    ),
                    "a timer of these rules has taken effect",
                )
    report = await compared(server)
    assert report.differences == []
    changes = rows(server, S.log, kind="rules")
    assert [row.payload.get("agents_max") for row in changes] == [20_000, 3, None]
    assert changes[-1].payload == {}
    assert values(server, S.meta)["rules"] == ""
    # One of them was kept out by a limit that holds only by those rules.
    assert [row["emitter"] for row in rows(server, S.log, kind="refused")] == ["agent 2"]


async def test_an_earlier_state(server: RunningServer) -> None:
    await compared_session(server)
    asked = rows(server, S.log, type="BLOCKED")[0]
    async with reading(server) as store:
        then = (await rebuild(store, S, until(asked.id))).session
        number = int(asked.id.partition("-")[0])
        assert then.log == number
        waiting = then.agents.get("B")
        assert waiting is not None
        assert (waiting.status, waiting.waits_for) == (AgentStatus.BLOCKED, ["schema"])
        before = (await rebuild(store, S, Until(number - 1))).session
        assert "B" not in before.agents
        whole = (await rebuild(store, S)).session
        assert whole.log == int(values(server, S.meta)["log"])
        at = (await rebuild(store, S, Until(ms=int(asked["ms"])))).session
        assert at.log >= number


def test_until() -> None:
    assert until("12-0") == until("12") == until("12-3") == Until(12)
    assert until("1:05") == Until(ms=65_000, from_opening=True)
    assert until("1970-01-01T00:00:02Z") == Until(ms=2_000)
    for text in ("", "-", "1:60", "yesterday", "2025-12-30T19:30:00", "1-0-0", "٣"):
        with pytest.raises(CallerError, match="until: got"):
            until(text)
    # To the second, as a timeline shows it.
    stop = until("0:15")
    assert not stop.is_before(3, 115_999, 100_000)
    assert stop.is_before(3, 116_000, 100_000)


async def test_no_session(server: RunningServer) -> None:
    async with reading(server) as store:
        with pytest.raises(NotFoundError, match="no session s"):
            await Comparison(store, S).run()
        with pytest.raises(NotFoundError, match="no session s"):
            await rebuild(store, S)


def test_an_entry_that_no_fabric_wrote() -> None:
    entries: list[Entry] = [
        (b"1-0", [b"kind", b"signal", b"ms", b"5"]),
        (b"1-0", [b"kind", b"derived", b"type", b"TIMER", b"timer", b"x:y", b"ms", b"5"]),
        (b"1-0", [b"kind", b"rules", b"type", b"RULES", b"payload", b"[", b"ms", b"5"]),
        (b"1-0", [b"a", b"b"]),
        (b"1-1", [b"kind", b"directive", b"ms", b"5"]),
        (b"2-0", [b"kind", b"signal", b"ms", b"5"]),
    ]
    for entry in entries:
        with pytest.raises(DivergedError, match=r"1-[01]"):
            Replay(S).take(entry)
