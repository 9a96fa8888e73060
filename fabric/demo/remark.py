"""What did not go as it should, said aloud: a partial result that the report shows."""

from __future__ import annotations

from fabric.client.agent import Agent

#: The field of a partial result that holds an agent's remarks: `{"remarks": {NAME: [text]}}`. They
#: are a list, so that the synthesis keeps them all.
FIELD = "remarks"


async def remark(agent: Agent, text: str) -> None:
    """Say that something did not go as it should, and that the work goes on all the same."""
    await agent.partial_result({FIELD: {agent.name: [text]}})
