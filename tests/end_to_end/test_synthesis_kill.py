"""Synthesizers are killed repeatedly; no result is lost, and none counts twice.

The default size fits the suite's budget; FABRIC_TEST_FULL=1 folds 100,000 results of 200 agents
over fifty kills.
"""

import json
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest

from tests.end_to_end.crowd import DEMO, say
from tests.end_to_end.synthesized import LEASE, causes, check_revisions, document, is_folded
from tests.support.daemon import Daemon, StartDaemon
from tests.support.keyspace import DEAD, RESULTS, SIGNALS, client, rows, values
from tests.support.servers import RunningServer
from tests.support.waiting import until


@dataclass(frozen=True)
class Size:
    """Numbers of results and of kills."""

    agents: int
    results_each: int
    kills: int
    lease_ms: int = 300

    @property
    def results(self) -> int:
        return self.agents * self.results_each


FULL = os.environ.get("FABRIC_TEST_FULL", "") not in ("", "0")
SIZE = Size(200, 500, kills=50) if FULL else Size(20, 150, kills=6)
#: Most results in one commit: few, so that a kill hits a commit under way.
BATCH = 50 if FULL else 10
#: Time limit after the last kill, s; at full size it takes half a minute on two cores.
REST_SECONDS_MAX = 600.0
#: In every such turn an agent supersedes its last finding, or contradicts the others.
SUPERSEDES, SHARES = 5, 50
#: Findings that all agents report, each with its own value.
SHARED = 3


def agent_name(number: int) -> str:
    return f"agent-{number:03}"


def report(number: int, turn: int) -> dict[str, Any]:
    """Return an agent's result: a finding of its own, a counter, an item of a list."""
    finding: dict[str, Any] = {"key": f"{number}/{turn}", "value": f"found in turn {turn}"}
    if turn % SUPERSEDES == SUPERSEDES - 1:
        finding["supersedes"] = [f"{number}/{turn - 1}"]
    findings = [finding]
    if turn % SHARES == 0:
        findings.append({"key": f"shared-{turn // SHARES % SHARED}", "value": number})
    kinds = {"$append": [f"kind-{turn % 7}"]}
    return {"findings": findings, "done": {"$total": turn + 1}, "kinds": kinds}


def put(server: RunningServer, size: Size, turns: range) -> None:
    """XADD the results of all agents in these turns."""
    with client(server) as asking, asking.pipeline(transaction=False) as pipeline:
        for turn in turns:
            for number in range(size.agents):
                pipeline.execute_command(
                    *("XADD", SIGNALS, "*", "session", "demo", "type", "PARTIAL_RESULT"),
                    *("emitter", agent_name(number)),
                    *("payload", json.dumps({"partial": report(number, turn)})),
                )
        pipeline.execute()


def shares(size: Size) -> Iterator[range]:
    """Return the turns before each kill, and those after the last."""
    bounds = [size.results_each * n // (size.kills + 1) for n in range(size.kills + 2)]
    yield from map(range, bounds, bounds[1:])


def committed(server: RunningServer) -> str:
    """Return the id up to which the results are folded."""
    return values(server, LEASE).get("committed", "")


def _has_folded(server: RunningServer, place: str) -> bool:
    """Return whether anything was committed since then."""
    return committed(server) != place


@pytest.mark.slow
@pytest.mark.chaos
def test_nothing_is_lost_and_nothing_counts_twice(
    server: RunningServer, daemon: StartDaemon
) -> None:
    size = SIZE
    orchestrator = daemon(server.url)

    def next_synthesizer() -> Daemon:
        flags = ("--batch-signals-max", str(BATCH))
        return daemon(server.url, *flags, worker="synthesizer", lease_ms=size.lease_ms)

    say(server, "STARTED", *map(agent_name, range(size.agents)))
    *before, last = shares(size)
    for turns in before:
        place = committed(server)
        put(server, size, turns)
        synthesizer = next_synthesizer()
        # It has started on the results: the kill hits it while it works on the rest.
        until(partial(_has_folded, server, place), synthesizer.said)
        synthesizer.kill()
    put(server, size, last)
    say(server, "COMPLETED", *map(agent_name, range(size.agents)))
    synthesizer = next_synthesizer()
    until(lambda: is_folded(server), synthesizer.said, REST_SECONDS_MAX)
    # The run settles before it is final.
    until(lambda: rows(server, DEMO.log, type="SYNTHESIZED"), synthesizer.said)
    until(lambda: is_folded(server), synthesizer.said)
    for one in (orchestrator, synthesizer):
        one.terminate()
        assert one.wait() == 0, one.said()

    check_causes(server, size)
    check_document(document(server, DEMO), size)
    assert rows(server, DEAD) == []


def check_causes(server: RunningServer, size: Size) -> None:
    """Check that no revision is missing, that they give the document, and name each result once."""
    revisions = check_revisions(server, DEMO)
    handed = [
        row.id
        for kind in ("STARTED", "PARTIAL_RESULT", "COMPLETED")
        for row in rows(server, DEMO.log, type=kind, kind="signal")
    ]
    assert len(handed) == size.results + 2 * size.agents
    assert Counter(causes(revisions)) == Counter(handed)
    assert revisions[-1]["final"] == "1"
    assert len(rows(server, DEMO.log, type="SYNTHESIZED")) == 1
    assert server.cli("XLEN", RESULTS) == 0


def check_document(found: dict[str, Any], size: Size) -> None:
    """Check that every finding is there with its value and agent, and every counter is right."""
    findings = found["findings"]
    for number in range(size.agents):
        for turn in range(size.results_each):
            part = findings.pop(f"{number}/{turn}")
            is_superseded = turn % SUPERSEDES == SUPERSEDES - 2 and turn + 1 < size.results_each
            assert part["state"] == ("superseded" if is_superseded else "agreed")
            ((agent, (statement,)),) = part["said"].items()
            assert agent == agent_name(number)
            assert statement.get("value", part.get("value")) == f"found in turn {turn}"
    check_shared(findings, found["contradictions"], size)
    done = found["document"]["/done"]
    assert done["value"] == size.results
    assert len(done["said"]) == size.agents
    # Each counts once, however often it was delivered.
    appended = Counter(f"kind-{turn % 7}" for turn in range(size.results_each))
    counted = Counter(part["value"] for part in found["items"].values())
    assert counted == {kind: size.agents * count for kind, count in appended.items()}
    complete = found["complete"]
    assert (complete["agents"], complete["reported"], complete["ended"]) == (size.agents,) * 3
    assert (complete["percent"], complete["final"]) == (100, True)


def check_shared(findings: dict[str, Any], contradictions: dict[str, Any], size: Size) -> None:
    """Check that each shared finding is a contradiction with the value of each agent."""
    spoken = {f"shared-{turn // SHARES % SHARED}" for turn in range(0, size.results_each, SHARES)}
    assert set(findings) == spoken
    assert set(contradictions) == {f"findings:{name}" for name in spoken}
    for found in contradictions.values():
        assert sorted(one["value"] for (one,) in found["values"]) == list(range(size.agents))
