"""Two agents work through the command line, on every flavour of server."""

import pytest

from tests.support.servers import RunningServer
from tests.support.shell import Shell, end
from tests.support.waiting import until


@pytest.mark.slow
def test_two_agents(lone: Shell, started_server: RunningServer) -> None:
    if not started_server.alive:
        started_server.start()
    started_server.flush()
    lone.variables |= {"FABRIC_REDIS_URL": started_server.url, "FABRIC_SESSION": "demo"}
    architect = {"FABRIC_AGENT": "ARCHITECT", "FABRIC_STREAM": "A"}
    scheduler = {"FABRIC_AGENT": "SCHEDULER", "FABRIC_STREAM": "B"}
    orchestrator = lone.start("orchestrator")
    lone.good("emit", "STARTED", 'produces=["schema-change"]', **architect)
    waiting = lone.start("wait", "schema-change", **scheduler)
    until(lambda: "NUDGE" in lone.good("inbox", "--peek", **architect).out)
    lone.good("emit", "PROGRESS(25%)", **architect)
    lone.good("emit", "DEPENDENCY_RESOLVED(schema-change)", "--location", "x.py", **architect)
    assert end(waiting) == (0, "x.py\n", "")
    lone.good("emit", "COMPLETED", **architect)
    lone.good("emit", "COMPLETED", **scheduler)
    lone.good("wait", "--all")
    lone.good("emit", "HEARTBEAT", **scheduler)
    until(lambda: lone.good("dead").out)
    said = [line[6:].split()[0] for line in lone.good("tail", "--all").lines[2:]]
    assert said == [
        *("STARTED", "BLOCKED(schema-change)", "(nudge)", "PROGRESS(25%)"),
        *("DEPENDENCY_RESOLVED", "(auto-resume)", "COMPLETED", "COMPLETED", "(refused)"),
        "(notice)",
    ]
    lone.good("dead", "discard", "--all")
    for words in (
        ("status",),
        ("status", "--sessions"),
        ("keys",),
        ("inbox", "-a", "SCHEDULER"),
    ):
        assert lone.good(*words).out
    orchestrator.terminate()
    assert end(orchestrator).code == 0
