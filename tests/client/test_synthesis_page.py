"""The examples in docs/synthesis.md print what the page shows, and its Python runs."""

import asyncio
import json
import re
from typing import Any

from fabric.testing import InProcessFabric, running
from fabric.view.report import report
from tests.support.servers import ROOT

PAGE = (ROOT / "docs" / "synthesis.md").read_text()
EMIT = re.compile(r"fabric emit (\w+) -a (\w+) --payload '(.*?)'", re.DOTALL)


def block(language: str, containing: str = "") -> str:
    """The page's first code block in a language that contains a text."""
    blocks = re.findall(rf"^(```+){language}\n(.*?)^\1$", PAGE, re.DOTALL | re.MULTILINE)
    found: str = next(one for _, one in blocks if containing in one)
    return found


def untimed(text: str) -> str:
    """A text with each time replaced: no two runs have the same."""
    return re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ|(?<=\"ms\": )\d+", "0", text)


async def send_first_example(fabric: InProcessFabric) -> None:
    """Send the signals of the page's first example, one in each batch."""
    for kind, agent, payload in EMIT.findall(block("sh", "fabric emit")):
        await fabric.emit([{"type": kind, "emitter": agent, "payload": json.loads(payload)}])
        await fabric.settle()


async def test_the_report_and_the_summary() -> None:
    async with running(session="demo") as fabric:
        await send_first_example(fabric)
        synthesis = await fabric.session().synthesis()
    assert untimed("\n".join(report(synthesis, "demo"))) == untimed(block("markdown")).rstrip("\n")
    assert str(synthesis) == block("text").rstrip("\n")


async def test_a_part_after_a_decision() -> None:
    async with running(session="demo") as fabric:
        await send_first_example(fabric)
        decision = {"escalation": "findings:port", "decision": "QA", "by": "ann"}
        await fabric.emit([{"type": "DECIDED", "emitter": "ann", "payload": decision}])
        await fabric.settle()
        synthesis = await fabric.session().synthesis()
    part = json.dumps(synthesis.document["findings"]["port"])
    assert json.loads(untimed(part)) == json.loads(untimed(block("json")))


async def test_the_python_example() -> None:
    async with running(session="demo") as fabric:
        await send_first_example(fabric)
        first, rest = block("python", "Fabric.connect").split("\n", 1)
        assert first == "async with Fabric.connect() as fabric:"
        names: dict[str, Any] = {}
        code = f"async def example(fabric):\n{rest}"
        exec(compile(code, "docs/synthesis.md", "exec"), names)  # noqa: S102 - the page is ours
        example = asyncio.create_task(names["example"](fabric))
        await fabric.settle()
        await fabric.emit([{"type": "COMPLETED", "emitter": one} for one in ("ARCHITECT", "QA")])
        await fabric.settle()
        await example
