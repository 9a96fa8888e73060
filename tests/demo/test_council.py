"""Where to begin: reviewers that contradict each other hear of it at work, on a real server."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from fabric.client.agent import Agent
from fabric.client.fabric import Fabric
from fabric.core.synthesis.part import State
from fabric.demo.council import agree
from fabric.demo.finding import Finding, Severity
from fabric.demo.fleet import CHECKPOINTS, REVIEWERS
from fabric.demo.opinion import KEY, PART
from fabric.store.port import BEGINNING
from fabric.view.synthesis import Synthesis
from tests.support.daemon import StartDaemon, daemon
from tests.support.servers import RunningServer

__all__ = ["daemon"]

#: Longest that anything may take here, s.
LIMIT_S = 60

#: Who speaks; all others have nothing to say, and have ended.
SPEAKERS = ("STYLE", "SAFETY")


@pytest.fixture
def url(server: RunningServer, daemon: StartDaemon, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of a server with both workers."""
    monkeypatch.setenv("FABRIC_CONFIG", "/dev/null")
    for name in ("orchestrator", "synthesizer"):
        daemon(server.url, worker=name)
    return server.url


def finding(path: str, severity: Severity) -> Finding:
    return Finding(f"{path}:1:r", path, 1, "r", "m", severity, "x", "a")


def run(work: Coroutine[Any, Any, Any]) -> Any:
    async def within() -> Any:
        async with asyncio.timeout(LIMIT_S):
            return await work

    return asyncio.run(within())


async def speak(fabric: Fabric, agent: Agent, path: str, severity: Severity) -> None:
    await agree(agent, fabric.store, [finding(path, severity)], CHECKPOINTS[0])


async def end_others(fabric: Fabric) -> None:
    for member in REVIEWERS:
        if member.name not in SPEAKERS:
            async with fabric.agent(member.name):
                pass


async def held(url: str, severity: Severity) -> tuple[Synthesis, dict[str, list[str]], list[str]]:
    """Let SAFETY find one of high severity, and STYLE another; return what came of it."""
    async with Fabric.connect(url, session="demo") as fabric:
        await end_others(fabric)
        async with fabric.agent("STYLE") as style, fabric.agent("SAFETY") as safety:
            await asyncio.gather(
                speak(fabric, style, "a.py", severity), speak(fabric, safety, "b.py", Severity.HIGH)
            )
        session = fabric.session("demo")
        synthesis = await session.until_final(timeout=LIMIT_S)
        told = {}
        for name in SPEAKERS:
            inbox = session.keys.inbox(name)
            entries = (await fabric.store.read_streams({inbox: BEGINNING}, 100, 0))[inbox]
            told[name] = [flat[flat.index(b"type") + 1].decode() for _, flat in entries]
        return synthesis, told, list(await session.escalations())


def test_both_are_told_at_work_and_who_found_less_gives_way(url: str) -> None:
    synthesis, told, _ = run(held(url, Severity.LOW))
    assert all("CONFLICT_DETECTED" in types for types in told.values())
    found = synthesis.findings[KEY]
    assert (found.state, found.value) == (State.AGREED, "b.py")
    assert synthesis.contradictions == {}


def test_between_equals_it_stays_open_for_a_person(url: str) -> None:
    synthesis, told, questions = run(held(url, Severity.HIGH))
    assert all("CONFLICT_DETECTED" in types for types in told.values())
    assert list(synthesis.contradictions) == [PART]
    assert questions == [PART]


def test_an_integration_is_met_while_others_have_yet_to_speak(url: str) -> None:
    async def meet() -> None:
        async with Fabric.connect(url, session="demo") as fabric:
            await end_others(fabric)
            async with (
                fabric.agent("INTEGRATOR") as leader,
                fabric.agent("STYLE") as style,
                fabric.agent("SAFETY") as safety,
            ):
                await asyncio.gather(*(agent.ready() for agent in (leader, style, safety)))
                speaking = asyncio.create_task(speak(fabric, style, "a.py", Severity.LOW))

                async def pause() -> None:
                    async for message in safety.messages():
                        if message.type == "PAUSE":
                            break
                    await safety.checkpoint(CHECKPOINTS[0])

                pausing = asyncio.create_task(pause())
                async with leader.integrating("look", timeout=LIMIT_S):
                    assert not speaking.done()
                await pausing
                await speak(fabric, safety, "b.py", Severity.HIGH)
                await speaking

    run(meet())
