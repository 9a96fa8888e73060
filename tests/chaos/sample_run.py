"""The evidence of a short, correct run; tests corrupt it in one place.

ada and bob write the same file one after the other, ada sends a result and leads an integration,
bob waits for an output of hers, and both end.
"""

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

from fabric.store.keys import ORCHESTRATORS, SYNTHESIZERS
from tests.chaos.evidence import Evidence
from tests.chaos.journal import write_json
from tests.chaos.roster import MORTAL, PARTITIONS, TEAMS, record

SESSION = TEAMS[0]
ADA, BOB = "ada", "bob"

FINDING = {"key": "port", "value": 6380}
PART = {"state": "agreed", "value": 6380, "said": {ADA: [{"log": 6}]}}
COMPLETE = {"agents": 2, "final": True}


class SampleRun:
    """The records and streams of the run; change them, then call `evidence`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        #: Agent → lines of its record.
        self.records: dict[str, list[dict[str, Any]]] = defaultdict(list)
        #: Stream → entries: id and fields.
        self.streams: dict[str, dict[str, dict[str, str]]] = defaultdict(dict)
        self.faults: list[dict[str, Any]] = []
        self.dead: list[dict[str, str]] = []
        self.replay: dict[str, list[str]] = {SESSION: []}
        #: What the process has noted that lets sessions end.
        self.wrong: list[str] = []
        self.left = 0
        self.committed = "100-0"
        self.hashes: dict[str, dict[str, Any]] = {
            "agents": {ADA: {"status": "completed"}, BOB: {"status": "completed"}},
            "claims": {},
            "barriers": {"gate": {"state": "over"}},
            "escalations": {},
            "dependencies": {},
            "synthesis": {"revision": 1, "complete": COMPLETE, "findings:port": dict(PART)},
        }
        self._clock = 0.0
        self._seq: dict[str, int] = defaultdict(int)
        self._play()

    def note(self, agent: str, what: str, **fields: Any) -> None:
        """Add a line to an agent's record, a little later than every earlier line."""
        self._clock += 1
        self.records[agent].append({"what": what, "at": self._clock, **fields})

    def say(self, agent: str, number: int, kind: str, payload: dict[str, Any]) -> None:
        """Add a signal that is sent, acknowledged and logged."""
        self._seq[agent] += 1
        seq, text = self._seq[agent], json.dumps(payload)
        self.note(agent, "sending", type=kind, inc=1, seq=seq, payload=text)
        self.note(agent, "sent", inc=1, seq=seq, id=f"{number}-0")
        self.streams["log"][f"{number}-0"] = {
            "kind": "signal", "session": SESSION, "type": kind, "emitter": agent,
            "seq": str(seq), "incarnation": "1", "payload": text,
        }  # fmt: skip

    def tell(self, to: str, entry_id: str, kind: str, payload: dict[str, Any]) -> None:
        """Add a message that is logged, delivered and read."""
        cause = f"{entry_id.partition('-')[0]}-0"
        fields = {"type": kind, "from": "ORCHESTRATOR", "cause": cause}
        fields["payload"] = json.dumps(payload)
        self.streams["log"][entry_id] = {"kind": "directive", "to": to, **fields}
        where = "broadcast" if to == "*" else "inbox"
        self.streams[where if to == "*" else f"inbox/{to}"][entry_id] = fields
        for agent in (ADA, BOB) if to == "*" else (to,):
            self.note(agent, "received", where=where, ids=[entry_id])

    def _play(self) -> None:
        for number, agent in enumerate((ADA, BOB), 1):
            self.note(agent, "began", inc=1)
            self.say(agent, number, "STARTED", {"task": "work"})
        for number, agent in enumerate((ADA, BOB)):
            self.note(agent, "turn", inc=1)
            self.note(agent, "waits", on="turn for src/a.py")
            self.say(agent, 3 + 4 * number, "INTENT", {"writes": ["src/a.py"]})
            granted = {"resources": ["src/a.py"], "token": number + 1}
            self.tell(agent, f"{3 + 4 * number}-1", "PROCEED", granted)
            self.note(agent, "waited", on="turn for src/a.py", how="")
            self.note(agent, "holds", token=number + 1, names=["src/a.py"])
            self.note(agent, "releases", token=number + 1)
            self.say(agent, 4 + 4 * number, "RELEASE", {"resources": ["src/a.py"]})
            if agent == ADA:
                self.say(ADA, 6, "PARTIAL_RESULT", {"partial": {"findings": [FINDING]}})
        self.say(ADA, 9, "INTEGRATION_REQUIRED", {"name": "gate"})
        self.tell("*", "9-1", "PAUSE", {"barrier": "gate", "members": [BOB]})
        self.say(BOB, 10, "CHECKPOINT_REACHED", {"barrier": "gate"})
        self.tell(ADA, "10-1", "PROCEED", {"barrier": "gate"})
        self.note(ADA, "opened", barrier="gate", inc=1)
        self.note(ADA, "closing", barrier="gate")
        self.say(ADA, 11, "INTEGRATED", {"name": "gate"})
        self.tell("*", "11-1", "RESUME", {"barrier": "gate"})
        self.note(BOB, "turn", inc=1)
        self.note(BOB, "waits", on="out/ada/1")
        self.say(BOB, 12, "BLOCKED", {"on": "out/ada/1"})
        self.tell(BOB, "12-1", "RESUME", {"dependency": "out/ada/1"})
        self.note(BOB, "waited", on="out/ada/1", how="")
        for number, agent in enumerate((ADA, BOB), 13):
            self.note(agent, "settled", upto="12-1")
            self.say(agent, number, "COMPLETED", {})
            self.note(agent, "ended", how="")
        self.streams["revisions"]["1-0"] = self._revision()

    def _revision(self) -> dict[str, str]:
        document = {
            "session": SESSION, "revision": 1, "complete": COMPLETE, "findings": {"port": PART},
            **{name: {} for name in ("agents", "contradictions", "document", "items", "refined")},
        }  # fmt: skip
        patch = [{"op": "add", "path": "", "value": document}]
        return {"patch": json.dumps(patch), "causes": "1-0 2-0 6-0 13-0 14-0"}

    def evidence(self) -> Evidence:
        """Write it to files as a run does."""
        for agent, found in self.records.items():
            _write_lines(record(self._directory, SESSION, agent), found)
        noted = [{"what": "wrong", "text": text} for text in self.wrong]
        _write_lines(self._directory / f"{MORTAL}.jsonl", noted)
        server = self._directory / "server"
        for name, entries in self.streams.items():
            path = server / "sessions" / SESSION / f"{name}.jsonl"
            ordered = sorted(entries.items(), key=lambda item: _place(item[0]))
            _write_lines(path, [list(item) for item in ordered])
        stored = {
            name: {field: json.dumps(value) for field, value in fields.items()}
            for name, fields in self.hashes.items()
        }
        write_json(server / "sessions" / SESSION / "hashes.json", stored)
        _write_lines(self._directory / "faults.jsonl", self.faults)
        _write_lines(server / "dead" / "0.jsonl", [["1-0", letter] for letter in self.dead])
        group = {"left": self.left, "lease": {"committed": self.committed}}
        groups = {ORCHESTRATORS: group, SYNTHESIZERS: {**group, "left": 0}}
        write_json(server / "partitions.json", {str(n): groups for n in range(PARTITIONS)})
        write_json(server / "replay.json", self.replay)
        return Evidence(self._directory)


def _place(entry_id: str) -> tuple[int, ...]:
    return tuple(map(int, entry_id.split("-")))


def _write_lines(path: Path, found: list[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in found))
