"""A misbehaving client: `python -m tests.chaos.rogue URL DIRECTORY SEED`.

It sends garbage, signals of a stale incarnation and repeats, and takes entries by XREADGROUP
without acknowledging them. None of it may affect anybody.
"""

import random
import sys
import time
from pathlib import Path
from typing import Any

from fabric.store.keys import ORCHESTRATORS, Namespace
from tests.chaos.deployment import UNREACHABLE, ask
from tests.chaos.journal import Journal, lines
from tests.chaos.raw_sender import AGAIN_S, PARTITION, signal
from tests.chaos.roster import PARTITIONS, RAW_SESSION, ROGUE_SESSION, TEAMS, is_over, record

#: Pause between two actions, s.
PAUSE_S = 0.1
#: Bytes of a payload above the limit.
HUGE_BYTES = 1_200_000

OWN = Namespace().partition(1)

#: Entries that are not valid signals.
GARBAGE: tuple[dict[str, Any], ...] = (
    {"a": "b"},
    {"session": ROGUE_SESSION, "type": "NONSENSE", "emitter": "rogue"},
    {"session": ROGUE_SESSION, "type": "PROGRESS", "emitter": "*"},
    {"session": ROGUE_SESSION, "type": "PROGRESS", "emitter": "rogue", "payload": "{"},
    {"session": ROGUE_SESSION, "type": "PROGRESS", "emitter": "rogue", "payload": "[1]"},
    {"session": ROGUE_SESSION, "type": "PROGRESS", "emitter": b"\xff\xfe", "payload": "{}"},
    {"session": ROGUE_SESSION, "type": "PROGRESS", "emitter": "rogue", "seq": "-1"},
    {"session": ROGUE_SESSION, "type": "BLOCKED", "emitter": "rogue", "payload": "{}"},
    {"session": "a:b", "type": "PROGRESS", "emitter": "rogue"},
    {"session": ROGUE_SESSION, "type": "RELEASE", "emitter": "rogue",
     "payload": '{"resources": 7}'},
    {"session": ROGUE_SESSION, "type": "DECIDED", "emitter": "rogue",
     "payload": '{"escalation": "nothing", "decision": "no"}'},
    {"session": ROGUE_SESSION, "type": "INTEGRATED", "emitter": "rogue",
     "payload": '{"name": "x"}'},
)  # fmt: skip


class Rogue:
    """The misbehaving client."""

    def __init__(self, url: str, directory: Path, seed: int) -> None:
        self._url = url
        self._directory = directory
        self._chance = random.Random(f"{seed}/rogue")
        self._journal = Journal(record(directory, ROGUE_SESSION, "rogue"))

    def run(self) -> None:
        """Misbehave until the run is over; ignore refusals."""
        deeds = (self._garbage, self._huge, self._stale, self._repeat, self._take)
        while not is_over(self._directory):
            deed = self._chance.choices(deeds, (10, 1, 5, 5, 1))[0]
            self._journal.note("deed", name=deed.__name__)
            try:
                deed()
            except UNREACHABLE:
                time.sleep(AGAIN_S)
            time.sleep(PAUSE_S)

    def _add(self, key: str, fields: dict[str, Any]) -> None:
        ask(self._url, "XADD", key, "*", *(part for pair in fields.items() for part in pair))

    def _garbage(self) -> None:
        self._add(OWN.signals, self._chance.choice(GARBAGE))

    def _huge(self) -> None:
        payload = f'{{"note": "{"x" * HUGE_BYTES}"}}'
        signal = {
            "session": ROGUE_SESSION,
            "type": "PROGRESS",
            "emitter": "rogue",
            "payload": payload,
        }
        self._add(OWN.signals, signal)

    def _stale(self) -> None:
        """Send signals as incarnation 1 of a team's agent, with new sequence numbers.

        While incarnation 1 still lives this would be impersonation, which nobody can detect: wait
        until the agent's record shows a newer incarnation.
        """
        session = self._chance.choice(TEAMS)
        path = record(self._directory, session, "bob")
        lives = [line for line in lines(path) if line["what"] == "began"] if path.exists() else []
        if len(lives) < 2 or lives[-1]["inc"] == 1:
            return
        key = Namespace().partition(TEAMS.index(session)).signals
        said = {"session": session, "emitter": "bob", "incarnation": 1, "seq": 1_000_000}
        for kind in ("COMPLETED", "RELEASE"):
            self._add(key, {**said, "type": kind})

    def _repeat(self) -> None:
        """Repeat a signal of the raw sender that was acknowledged long ago."""
        path = record(self._directory, RAW_SESSION, "by-xadd")
        sent = [line for line in lines(path) if line["what"] == "sent"] if path.exists() else []
        if not sent:
            return
        line = self._chance.choice(sent)
        kind, _ = signal(line["seq"])
        said = {"session": RAW_SESSION, "type": kind, "emitter": "by-xadd", "seq": line["seq"]}
        said |= {"incarnation": line["inc"], "payload": '{"partial": {"twice": 1}}'}
        self._add(PARTITION.signals, said)

    def _take(self) -> None:
        """Read as a member of the consumer group; the fabric does not depend on pending entries."""
        for number in range(PARTITIONS):
            key = Namespace().partition(number).signals
            ask(self._url, "XREADGROUP", "GROUP", ORCHESTRATORS, "rogue", "COUNT", 5,
                "STREAMS", key, ">")  # fmt: skip


if __name__ == "__main__":
    Rogue(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])).run()
