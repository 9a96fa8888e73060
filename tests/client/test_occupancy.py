"""One copy of the files, one session at a time."""

import pytest

from fabric.client.fabric import Fabric
from fabric.errors import HeldError
from fabric.testing import InProcessFabric
from tests.client.fleet import after, in_process

HERE, THERE = "h:/w/one", "h:/w/two"


async def claim(fabric: Fabric, session: str, workspace: str = HERE, name: str = "a.py") -> None:
    """Write as an agent of a session that ends then."""
    async with (
        fabric.agent("C", session=session, workspace=workspace) as agent,
        agent.writing(name),
    ):
        pass


async def refused(fabric: InProcessFabric, session: str) -> str:
    """Return why a session may not claim, once the signals of others are no longer under way."""
    async with fabric.agent("B", session=session, workspace=HERE) as agent:
        with pytest.raises(HeldError) as held:
            await after(fabric, 4, agent.writing("a.py").__aenter__())
        return str(held.value)


async def test_a_second_session_is_refused_by_name_while_the_first_works_there() -> None:
    async with in_process() as fabric:
        async with fabric.agent("A", session="one", workspace=HERE) as first:
            async with first.writing("a.py"):
                why = await refused(fabric, "two")
                assert why.startswith(f"session one works in {HERE} (A), ")
                assert "fabric close one" in why
                # Another copy, and what is no file of a copy, are free.
                await claim(fabric, "two", THERE)
                await claim(fabric, "two", HERE, "db:main")
            await claim(fabric, "one")
        await after(fabric, 4, claim(fabric, "two"))


async def test_of_two_sessions_that_begin_at_once_one_is_refused() -> None:
    """Nothing of the first is in the records yet."""
    async with in_process() as fabric:
        intent = {"type": "INTENT", "payload": {"writes": ["a.py"], "workspace": HERE}}
        await fabric.emit([{**intent, "session": "one", "emitter": "A"}])
        assert "session one works" in await refused(fabric, "two")


async def test_a_closed_session_is_in_nobodys_way() -> None:
    async with in_process() as fabric:
        intent = {"type": "INTENT", "payload": {"writes": ["a.py"], "workspace": HERE}}
        await fabric.emit([{**intent, "session": "one", "emitter": "A"}])
        await fabric.emit([{"session": "one", "emitter": "P", "type": "RUN_CLOSED"}])
        await after(fabric, 4, claim(fabric, "two"))
