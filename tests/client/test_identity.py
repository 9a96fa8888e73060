"""One name, one agent: a second living process is refused, a restart is not."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fabric.core.policy import NamePolicy
from fabric.core.rules import Rules
from fabric.devserver import instance, path
from fabric.errors import EndedError, NameTakenError
from tests.client.fleet import S, in_process
from tests.support.keyspace import records, rows

SUFFIX = Rules(name_taken=NamePolicy.SUFFIX)
BEGIN = "from fabric.devserver import instance; print(instance.begin())"


async def test_a_second_process_is_refused_and_told_who_has_the_name() -> None:
    async with in_process() as fabric, fabric.agent("W", produces=["x"]) as first:
        with pytest.raises(NameTakenError, match="W is the agent of") as taken:
            await fabric.agent("W").__aenter__()
        assert taken.value.instance == records(fabric, S.agents)["W"]["instance"]
        await first.resolve("x")
        assert records(fabric, S.agents)["W"]["incarnation"] == first.incarnation == 1
    (refused,) = [row for row in rows(fabric, S.log) if row["kind"] == "refused"]
    assert (refused["type"], refused["code"]) == ("STARTED", "NAME_TAKEN")


async def test_what_the_refused_one_sends_next_takes_nothing_over() -> None:
    async with in_process() as fabric, fabric.agent("W") as first:
        late = {"session": "s", "emitter": "W", "incarnation": 2, "seq": 2}
        await fabric.emit([{**late, "type": "INTENT", "payload": {"writes": ["x"]}}])
        await fabric.settle()
        assert records(fabric, S.agents)["W"]["incarnation"] == first.incarnation == 1


async def test_a_rule_gives_the_second_one_a_name_of_its_own() -> None:
    async with in_process(SUFFIX) as fabric, fabric.agent("W") as first:
        async with fabric.agent("W") as second, fabric.agent("W") as third:
            assert (first.name, second.name, third.name) == ("W", "W#2", "W#3")
            async with second.writing("x"):
                await asyncio.sleep(0)
        async with fabric.agent("W") as again:
            assert again.name == "W#2"


async def test_a_name_is_taken_over_where_the_caller_says_so() -> None:
    async with in_process() as fabric:
        first = await fabric.agent("W").__aenter__()
        async with fabric.agent("W", take_over=True) as second:
            await second.ready()
            assert first.cancelled is not None
            assert "replaced" in first.cancelled
        with pytest.raises(EndedError):
            await first.__aexit__(None, None, None)


async def test_a_crash_on_this_host_leaves_the_name_free() -> None:
    # Of a process that has ended.
    gone = subprocess.check_output([sys.executable, "-c", BEGIN], text=True).strip()  # noqa: ASYNC221 - before the fabric begins
    assert instance.is_gone(gone)
    async with in_process() as fabric:
        first = await fabric.agent("W", instance=gone).__aenter__()
        await first.ready()
        await first.leave()
        async with fabric.agent("W") as again:
            await again.ready()
            assert again.incarnation == 2


async def test_a_process_on_another_host_counts_as_alive_until_it_is_declared_dead() -> None:
    async with in_process() as fabric:
        first = await fabric.agent("W", instance="elsewhere/17/1-2-3").__aenter__()
        with pytest.raises(NameTakenError, match="elsewhere/17"):
            await fabric.agent("W").__aenter__()
        await first.leave()
        await fabric.advance(700)
        async with fabric.agent("W") as again:
            await again.ready()


async def test_each_process_of_this_host_is_told_from_the_others() -> None:
    mine = instance.begin()
    host, pid, mark = mine.split("/")
    assert not instance.is_gone(mine)
    assert not instance.is_gone(f"elsewhere/{pid}/{mark}")
    assert not instance.is_gone("claude-4711")
    assert instance.is_gone(f"{host}/{2**31 - 1}/{mark}")
    assert instance.is_gone(f"{host}/1/{mark.split('-')[0]}-1-1")  # another process of that pid
    instance.end(mine)
    assert instance.is_gone(mine)


async def test_a_start_says_which_copy_of_the_files_it_works_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "fabric.toml").touch()
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path / "sub")
    here = f"{os.uname().nodename}:{tmp_path}"
    assert path.workspace() == here
    async with in_process() as fabric, fabric.agent("A"), fabric.agent("B", workspace="h:/w"):
        await fabric.settle()
        known = records(fabric, S.agents)
        assert [known[name].get("workspace") for name in ("A", "B")] == [None, "h:/w"]
    async with in_process(workspace=here) as fabric, fabric.agent("A"):
        await fabric.settle()
        assert records(fabric, S.agents)["A"]["workspace"] == here
