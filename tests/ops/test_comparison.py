"""A key that differs from what the log makes of it is reported, with the field that differs."""

import json
from typing import Any

import pytest

from fabric.errors import BusyError
from fabric.ops import comparison
from fabric.ops.comparison import Comparison, Difference
from fabric.store.redis import RedisStore
from tests.ops.stored_session import RULES, S, compared, compared_session, say, write_session
from tests.support.in_process import serving
from tests.support.keyspace import rows
from tests.support.servers import RunningServer
from tests.support.waiting import eventually


@pytest.mark.parametrize(
    ("field", "changed", "named"),
    [
        ("status", "failed", '"failed"'),
        ("incarnation", 7, "7"),
        ("invented", 1, "1"),
        ("seq", None, "nothing"),
    ],
)
async def test_a_field_of_a_record_that_differs_is_named(
    server: RunningServer, field: str, changed: Any, named: str
) -> None:
    await compared_session(server)
    record = json.loads(server.cli("HGET", S.agents, "A"))
    kept = {name: value for name, value in record.items() if name != field}
    spoilt = {**kept, field: changed} if changed is not None else kept
    server.cli("HSET", S.agents, "A", json.dumps(spoilt, separators=(",", ":")))
    report = await compared(server)
    found = [one for one in report.differences if one.field == f"A {field}"]
    assert [(one.key, one.redis) for one in found] == [(S.agents, named)]
    assert len(report.differences) == 1


async def test_a_missing_or_extra_record_is_named(server: RunningServer) -> None:
    await compared_session(server)
    server.cli("HDEL", S.dependencies, "schema")
    server.cli("HSET", S.meta, "log", 3)
    server.cli("HSET", S.tasks, "another", "{}")
    found = {(one.key, one.field) for one in (await compared(server)).differences}
    assert found == {(S.dependencies, "schema"), (S.meta, "log"), (S.tasks, "another")}


async def test_locks_queues_and_barriers_that_differ_are_named(server: RunningServer) -> None:
    await compared_session(server)
    server.cli("HSET", S.lock("f.py"), "holder", "D")
    server.cli("HSET", S.lock("g.py"), "holder", "E")
    server.cli("ZADD", S.queue("g.py"), 5, "D")
    server.cli("ZADD", S.arrived("m"), 5, "nobody")
    found = {(one.key, one.field) for one in (await compared(server)).differences}
    assert found == {
        (S.lock("f.py"), "holder"),
        (S.lock("g.py"), "holder"),
        (S.queue("g.py"), "D"),
        (S.arrived("m"), "nobody"),
    }


async def test_a_key_of_another_type_is_named(server: RunningServer) -> None:
    await compared_session(server)
    for key in (S.tasks, S.inbox("B")):
        server.cli("SET", key, "by hand")
    found = {(one.key, one.redis) for one in (await compared(server)).differences}
    assert found == {(S.tasks, "string"), (S.inbox("B"), "string")}


async def test_messages_that_differ_are_named(server: RunningServer) -> None:
    await compared_session(server)
    first, *_, last = rows(server, S.inbox("B"))
    server.cli("XDEL", S.inbox("B"), first.id)
    server.cli("XADD", S.inbox("B"), "900-0", "type", "RESUME", "from", "X")
    server.cli("XADD", S.inbox("nobody spoke to"), "1-0", "type", "RESUME")
    report = await compared(server)
    assert [(one.key, one.field, one.redis) for one in report.differences] == [
        (S.inbox("B"), first.id, "nothing"),
        (S.inbox("B"), "900-0", "RESUME from X"),
    ]
    assert last.id != first.id


async def test_a_message_that_was_changed_is_named(server: RunningServer) -> None:
    await compared_session(server)
    first, *others = rows(server, S.broadcast)
    server.cli("DEL", S.broadcast)
    changed = {**first.fields, "payload": '{"name":"other"}'}
    for entry_id, fields in ((first.id, changed), *((row.id, row.fields) for row in others)):
        server.cli("XADD", S.broadcast, entry_id, *(x for pair in fields.items() for x in pair))
    (one,) = (await compared(server)).differences
    assert (one.key, one.field) == (S.broadcast, f"{first.id} payload")
    assert (one.log, one.redis) == ('{"name": "m"}', '{"name":"other"}')


async def test_a_log_of_several_pages(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("fabric.client.session", "fabric.ops.comparison"):
        monkeypatch.setattr(f"{module}.PAGE", 3)
    assert (await compared_session(server)).differences == []
    for row in rows(server, S.inbox("B")):
        server.cli("XDEL", S.inbox("B"), row.id)
    differences: list[Difference] = (await compared(server)).differences
    assert {one.key for one in differences} == {S.inbox("B")}


class Moving(RedisStore):
    """A store on which more happens whenever somebody looks at the state."""

    def __init__(self, server: RunningServer, times: int) -> None:
        super().__init__(server.url)
        self.server = server
        self.times = times

    async def hashes(self, keys: Any) -> list[dict[bytes, bytes]]:
        found = await super().hashes(keys)
        if self.times:
            self.times -= 1
            before = len(rows(self.server, S.log))
            say(self.server, "A", "PROGRESS", {"percent": self.times % 100})
            await eventually(lambda: len(rows(self.server, S.log)) > before, "it is through")
        return found


async def test_a_session_that_changes_meanwhile_is_compared_again(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparison, "ROUNDS_MAX", 2)
    async with serving(server.url, rules=RULES):
        await write_session(server)
        for times, is_busy in ((3, False), (1_000, True)):
            store = Moving(server, times)
            try:
                if is_busy:
                    with pytest.raises(BusyError, match="changed during"):
                        await Comparison(store, S).run()
                else:
                    assert (await Comparison(store, S).run()).differences == []
            finally:
                await store.close()
