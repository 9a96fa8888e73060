"""Writes question records as the orchestrator does, for tests that run without one."""

import json
from dataclasses import dataclass, field
from typing import Any

from fabric.wire.stored import fields_of
from tests.support.servers import RunningServer
from tests.support.shell import Shell

#: 2026-01-02T03:04:05Z, ms.
ASKED_MS = 1_767_323_045_000


@dataclass
class QuestionRecords:
    """Writes the records of one namespace that no orchestrator serves."""

    server: RunningServer
    namespace: str
    #: Session and agent → the questions whose answers it waits for.
    asks: dict[tuple[str, str], list[str]] = field(default_factory=dict)

    def put(self, session: str, id_: str, **record: Any) -> None:
        """Write a question's record, and the log entry of what has changed it."""
        document = {"state": "open", "question": "Which schema?", "asker": "A", **record}
        document.setdefault("asked_ms", ASKED_MS)
        document.setdefault("cause", f"{id_}/cause")
        key = f"{self.namespace}:{{0}}:{session}"
        self.server.cli("ZADD", f"{self.namespace}:{{0}}:sessions", ASKED_MS, session)
        self.server.cli("HSET", f"{key}:escalations", id_, json.dumps(document))
        for name in [document["asker"], *document.get("waiting", [])]:
            self.asks.setdefault((session, name), []).append(id_)
            agent = {"status": "blocked", "incarnation": 1, "asks": self.asks[session, name]}
            self.server.cli("HSET", f"{key}:agents", name, json.dumps(agent))
        kind = "ESCALATE" if document["state"] == "open" else "DECIDED"
        self.server.cli("XADD", f"{key}:log", "*", "kind", "signal", "type", kind)

    def decide(self, session: str, id_: str, decision: str, by: str, **record: Any) -> None:
        """Write the record of a decided question."""
        decided = {"state": "decided", "decision": decision, "by": by}
        self.put(session, id_, **{"decided_ms": ASKED_MS + 60_000, **decided, **record})

    def sent(self) -> list[dict[str, str]]:
        """What has arrived in the ingress, field by field."""
        entries = self.server.cli("XRANGE", f"{self.namespace}:{{0}}:signals", "-", "+")
        return [fields_of(flat) for _, flat in entries]


def question_records(shell: Shell, server: RunningServer) -> QuestionRecords:
    """What writes questions where a shell looks for them."""
    return QuestionRecords(server, shell.variables["FABRIC_NAMESPACE"])
