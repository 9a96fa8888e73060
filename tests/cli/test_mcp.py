"""`fabric mcp` by four ways: in memory (this protocol and the older one), over stdio, over HTTP."""

import asyncio
import json
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

mcp = pytest.importorskip("mcp", reason="the extra mcp is not installed")

from mcp.types import ElicitResult  # noqa: E402 - only if it is there

from fabric.agents.tools.server import serving  # noqa: E402 - only if it is there
from fabric.client.fabric import Fabric  # noqa: E402 - only if it is there
from tests.support.shell import Shell  # noqa: E402 - only if it is there
from tests.support.waiting import until  # noqa: E402 - only if it is there

ROOT = Path(__file__).parents[2]
WAYS = [
    "memory",
    "memory-legacy",
    pytest.param("stdio", marks=pytest.mark.slow),
    pytest.param("http", marks=pytest.mark.slow),
]

Person = Callable[[Any, Any], Awaitable[ElicitResult]]


@asynccontextmanager
async def connected(shell: Shell, way: str, person: Person | None = None) -> AsyncIterator[Any]:
    """Give a client of a server that was reached in one of the ways."""
    mode = "legacy" if way == "memory-legacy" else "auto"
    known = shell.variables
    if way.startswith("memory"):
        fabric = Fabric.connect(known["FABRIC_REDIS_URL"])
        async with (
            fabric,
            serving(fabric, known["FABRIC_SESSION"], agent=known.get("FABRIC_AGENT", "")) as server,
            mcp.Client(server, mode=mode, elicitation_callback=person) as client,
        ):
            yield client
        return
    words = [sys.executable, "-m", "fabric.cli", "mcp"]
    environment = shell.environment(PYTHONPATH=str(ROOT))
    if way == "stdio":
        target = mcp.StdioServerParameters(command=words[0], args=words[1:], env=environment)
        async with mcp.Client(target, elicitation_callback=person) as client:
            yield client
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    process = await asyncio.create_subprocess_exec(*words, "--http", address, env=environment)
    try:
        await asyncio.to_thread(until, lambda: _answers(address))
        url = f"http://{address}/mcp"
        async with mcp.Client(url, elicitation_callback=person) as client:
            yield client
    finally:
        process.terminate()
        await process.wait()


def _answers(address: str) -> bool:
    host, _, port = address.partition(":")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) == 0


async def call(client: Any, tool: str, **given: Any) -> Any:
    result = await client.call_tool(tool, given)
    assert not result.is_error, result.content
    return result.structured_content


@pytest.mark.parametrize("way", WAYS)
def test_claims_findings_and_messages(shell: Shell, way: str) -> None:
    shell.good("emit", "STARTED", "--confirm", "--agent", "QA")
    shell.good("emit", "INTENT(held.py)", "--confirm", "--agent", "QA")
    del shell.variables["FABRIC_AGENT"]
    asyncio.run(_claims(shell, way))
    # The client has gone: so have its agent and its claims.
    until(lambda: {one["agent"] for one in shell.records("claims").values()} <= {"QA"})


async def _claims(shell: Shell, way: str) -> None:
    async with connected(shell, way) as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert set(tools) == {
            "claim", "release", "wait", "emit", "report_finding", "read_messages",
            "status", "why", "ask_person",
        }  # fmt: skip
        assert tools["status"].annotations.read_only_hint
        assert "answer" not in tools["ask_person"].input_schema["properties"]
        assert all(len(tool.description) < 300 for tool in tools.values())
        first = await call(client, "claim", paths=["free.py"])
        assert first["granted"]
        assert (await call(client, "claim", paths=["free.py"]))["token"] == first["token"]
        held = await call(client, "claim", paths=["held.py"], wait_s=0)
        assert (held["granted"], held["holder"], held["position"]) == (False, "QA", 1)
        status = await call(client, "status")
        me = status["you"]
        (mine,) = [one for one in status["agents"] if one["name"] == me]
        assert (mine["holds"], mine["waits_for"]) == (["free.py"], ["held.py"])
        assert "QA" in (await call(client, "why"))["result"]
        await asyncio.to_thread(shell.good, "emit", "RELEASE(held.py)", "--agent", "QA", "-q")
        assert (await call(client, "claim", paths=["held.py"]))["granted"]
        await call(client, "release", paths=["held.py", "free.py"])
        await call(client, "report_finding", key="port", value=5432, confidence=0.9)
        assert (await call(client, "emit", type="PROGRESS", payload={"percent": 40}))["log_id"]
        refused = await client.call_tool("emit", {"type": "PROGRESS", "payload": {"percent": 400}})
        assert refused.is_error
        assert "0 to 100" in refused.content[0].text
        resolved = ("emit", "DEPENDENCY_RESOLVED", "dependency_id=x", f'consumers=["{me}"]')
        await asyncio.to_thread(
            shell.good, *resolved, "output_location=x.py", "--agent", "QA", "-q"
        )
        found = await call(client, "wait", dependency="x", wait_s=30)
        assert (found["resolved"], found["location"]) == (True, "x.py")
        said = (await call(client, "read_messages"))["messages"]
        assert any(one["sender"] == "QA" for one in said)
        assert (await call(client, "read_messages"))["messages"] == []
        session = json.loads((await client.read_resource("fabric://session")).contents[0].text)
        assert {one["name"] for one in session["agents"]} == {"QA", me}
        timeline = (await client.read_resource("fabric://timeline")).contents[0].text
        assert f"{me} reports progress" in timeline
        prompts = [one.name for one in (await client.list_prompts()).prompts]
        assert prompts == ["work_beside_others", "settle_contradictions", "hand_over"]


@pytest.mark.parametrize("way", WAYS)
def test_a_person_in_the_client_is_asked(shell: Shell, way: str) -> None:
    async def person(context: Any, params: Any) -> ElicitResult:
        assert "v1 / v2" in params.message
        return ElicitResult(action="accept", content={"decision": "v2"})

    async def ask() -> Any:
        async with connected(shell, way, person) as client:
            return await call(client, "ask_person", question="Which?", options=["v1", "v2"])

    decided = asyncio.run(ask())
    assert (decided["decided"], decided["decision"]) == (True, "v2")
    assert shell.records("escalations") == {}


@pytest.mark.parametrize("action", ["cancel", "decline", None])
def test_where_nobody_can_answer_it_is_escalated(shell: Shell, action: Any) -> None:
    async def person(context: Any, params: Any) -> ElicitResult:
        return ElicitResult(action=action)

    async def ask() -> tuple[Any, Any]:
        async with connected(shell, "memory", person if action else None) as client:
            asked = await call(client, "ask_person", question="Which?", wait_s=0)
            await asyncio.to_thread(shell.good, "decide", asked["question_id"], "v1")
            return asked, await call(client, "wait", dependency=asked["question_id"])

    asked, found = asyncio.run(ask())
    assert not asked["decided"]
    assert asked["question_id"] in asked["next"]
    assert (found["resolved"], found["decision"]) == (True, "v1")


def test_a_change_of_the_session_is_told(shell: Shell) -> None:
    async def listen() -> Any:
        async with connected(shell, "memory") as client:
            await call(client, "emit", type="PROGRESS", payload={"percent": 1})
            async with client.listen(resource_subscriptions=["fabric://session"]) as events:
                await call(client, "emit", type="PROGRESS", payload={"percent": 2})
                async with asyncio.timeout(30):
                    return await anext(aiter(events))

    assert "fabric://session" in str(asyncio.run(listen()))


def test_what_hooks_or_fabric_run_have_started_is_neither_started_nor_ended(shell: Shell) -> None:
    shell.good("emit", "STARTED", "--confirm")
    shell.good("emit", "INTENT(a.py)", "--confirm")

    async def use() -> Any:
        async with connected(shell, "memory") as client:
            return await call(client, "claim", paths=["a.py"])

    assert asyncio.run(use())["granted"]
    assert len(shell.records("claims")) == 1
    agent = shell.records("agents")["A"]
    assert (agent["status"], agent["incarnation"]) == ("active", 1)


@pytest.mark.parametrize(
    ("address", "code", "words"),
    [("0.0.0.0:80", 2, "no password"), ("x", 2, "HOST:PORT"), ("example.com:1", 2, "no password")],
)
def test_others_are_not_served(shell: Shell, address: str, code: int, words: str) -> None:
    done = shell.run("mcp", "--http", address)
    assert (done.code, words in done.err) == (code, True)
