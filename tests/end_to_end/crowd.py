"""Any number of agents that only use XADD, and what became of them."""

import json
from typing import Any

from tests.support.daemon import Daemon
from tests.support.keyspace import SIGNALS, Row, client, is_settled, records, rows, session, values
from tests.support.servers import RunningServer
from tests.support.waiting import until

DEMO = session("demo")


def say(
    server: RunningServer,
    kind: str,
    *emitters: str,
    incarnation: int = 0,
    in_session: str = "demo",
    **payload: object,
) -> None:
    """XADD the same signal for each agent, in order."""
    extra = {"incarnation": incarnation} if incarnation else {}
    with client(server) as asking, asking.pipeline(transaction=False) as pipeline:
        for emitter in emitters:
            fields = {"session": in_session, "type": kind, "emitter": emitter, **extra}
            if payload:
                fields["payload"] = json.dumps(payload)
            pipeline.execute_command(
                "XADD", SIGNALS, "*", *(part for pair in fields.items() for part in pair)
            )
        pipeline.execute()


def settle(server: RunningServer, orchestrator: Daemon) -> None:
    """Wait until all signals have taken effect."""
    until(lambda: is_settled(server), orchestrator.said)


def arrive(server: RunningServer, barrier: str, generation: int, *members: str) -> None:
    say(server, "CHECKPOINT_REACHED", *members, barrier=barrier, generation=generation)


def arrived(server: RunningServer, barrier: str = "release") -> int:
    """Return the number of arrived agents: `ZCARD arrived:<name>`."""
    count: int = server.cli("ZCARD", DEMO.arrived(barrier))
    return count


def barrier(server: RunningServer, name: str = "release") -> dict[str, str]:
    """Return the hash that shows a barrier."""
    return values(server, DEMO.barrier(name))


def statuses(server: RunningServer) -> dict[str, Any]:
    """Return the status of each agent."""
    return {name: agent["status"] for name, agent in records(server, DEMO.agents).items()}


def inbox(server: RunningServer, agent: str, kind: str) -> list[Any]:
    """Return the payloads of an agent's messages of one type."""
    return [row.payload for row in rows(server, DEMO.inbox(agent), type=kind)]


def told_all(server: RunningServer, kind: str) -> list[Any]:
    """Return the payloads of the broadcast messages of one type."""
    return [row.payload for row in rows(server, DEMO.broadcast, type=kind)]


def timer(server: RunningServer, key: str) -> list[Row]:
    """Return the log entries of a timer that took effect."""
    return rows(server, DEMO.log, timer=key)
