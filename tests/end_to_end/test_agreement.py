"""A place in a document on which agents must agree, as a rule says: like findings."""

from pathlib import Path
from typing import Any

from tests.end_to_end.crowd import DEMO, inbox, say
from tests.end_to_end.synthesized import check_revisions, document, is_folded
from tests.support.daemon import StartDaemon
from tests.support.keyspace import records
from tests.support.servers import RunningServer
from tests.support.waiting import until

RULES = """
[[synthesis.merges]]
path = "/config/*"
reducer = "agree"
"""

#: The place that these agents report on; the question about it has the same name.
DEBUG = "document:/config/debug"


def test_agents_that_must_agree_and_do_not(
    server: RunningServer, daemon: StartDaemon, tmp_path: Path
) -> None:
    rules = tmp_path / "fabric.toml"
    rules.write_text(RULES)
    workers = [
        daemon(server.url, worker=name, rules=rules) for name in ("orchestrator", "synthesizer")
    ]

    def settle() -> None:
        until(lambda: is_folded(server), lambda: "\n".join(one.said() for one in workers))

    def place(name: str) -> Any:
        return document(server, DEMO)["document"][f"/config/{name}"]

    say(server, "STARTED", "A", "B")
    say(server, "PARTIAL_RESULT", "A", partial={"config": {"debug": True, "port": 1}})
    say(server, "PARTIAL_RESULT", "B", partial={"config": {"debug": False, "port": 1.0}})
    settle()
    assert (place("port")["state"], place("port")["value"]) == ("agreed", 1)
    assert place("debug")["state"] == "contradicted"
    assert document(server, DEMO)["contradictions"].keys() == {DEBUG}
    for agent in "AB":
        (told,) = inbox(server, agent, "CONFLICT_DETECTED")
        assert told["part"] == DEBUG

    say(server, "DECIDED", "a person", escalation=DEBUG, decision="B")
    settle()
    assert (place("debug")["state"], place("debug")["value"]) == ("decided", False)
    assert place("debug")["said"]["A"][0]["standing"] == "rejected"
    assert records(server, DEMO.escalations)[DEBUG]["state"] == "decided"
    check_revisions(server, DEMO)
