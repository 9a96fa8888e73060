"""Agents that know nothing but XADD: as many as wanted, in one go, and what they have come to."""

import json
from typing import Any

from tests.support.daemon import Daemon
from tests.support.keyspace import SIGNALS, Row, client, is_settled, records, rows, session, values
from tests.support.servers import RunningServer
from tests.support.waiting import until

DEMO = session("demo")


def say(
    server: RunningServer, kind: str, *emitters: str, incarnation: int = 0, **payload: object
) -> None:
    """XADD the same signal for each of these, in order."""
    extra = {"incarnation": incarnation} if incarnation else {}
    with client(server) as asking, asking.pipeline(transaction=False) as pipeline:
        for emitter in emitters:
            fields = {"session": "demo", "type": kind, "emitter": emitter, **extra}
            if payload:
                fields["payload"] = json.dumps(payload)
            pipeline.execute_command(
                "XADD", SIGNALS, "*", *(part for pair in fields.items() for part in pair)
            )
        pipeline.execute()


def settle(server: RunningServer, orchestrator: Daemon) -> None:
    """Wait until all that was said has taken effect."""
    until(lambda: is_settled(server), orchestrator.said)


def arrive(server: RunningServer, barrier: str, generation: int, *members: str) -> None:
    say(server, "CHECKPOINT_REACHED", *members, barrier=barrier, generation=generation)


def arrived(server: RunningServer, barrier: str = "release") -> int:
    """As anybody may count them: `ZCARD arrived:<name>`."""
    count: int = server.cli("ZCARD", DEMO.arrived(barrier))
    return count


def barrier(server: RunningServer, name: str = "release") -> dict[str, str]:
    """The hash that shows a barrier."""
    return values(server, DEMO.barrier(name))


def statuses(server: RunningServer) -> dict[str, Any]:
    """Agent → status."""
    return {name: agent["status"] for name, agent in records(server, DEMO.agents).items()}


def inbox(server: RunningServer, agent: str, kind: str) -> list[Any]:
    """The payloads of an agent's messages of one type."""
    return [row.payload for row in rows(server, DEMO.inbox(agent), type=kind)]


def told_all(server: RunningServer, kind: str) -> list[Any]:
    """The payloads of the messages of one type to everyone."""
    return [row.payload for row in rows(server, DEMO.broadcast, type=kind)]


def timer(server: RunningServer, key: str) -> list[Row]:
    """The log's entries of a timer that took effect."""
    return rows(server, DEMO.log, timer=key)
