"""An agent without the library: `python -m tests.chaos.raw_sender URL DIRECTORY xadd|emit`.

`xadd` sends numbered signals as with `redis-cli`, and repeats those without a reply. `emit` writes
lines into `fabric emit -`, one process after the other.
"""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec

from fabric.store.keys import Namespace, SessionKeys
from tests.chaos.deployment import UNREACHABLE, ask
from tests.chaos.journal import Journal
from tests.chaos.roster import RAW_SESSION, is_over, record

#: Pause between two signals, s.
PAUSE_S = 0.05
#: Pause before a signal without a reply is repeated, s.
AGAIN_S = 0.2
#: Signals for one `fabric emit -`.
LINES = 40

PARTITION = Namespace().partition(0)
KEYS: SessionKeys = PARTITION.session(RAW_SESSION)


def ask_until_answered(url: str, *command: str | int) -> Any:
    """Repeat a command until the server replies."""
    while True:
        try:
            return ask(url, *command)
        except UNREACHABLE:
            time.sleep(AGAIN_S)


def enrolled(url: str, agent: str) -> int:
    """Return the agent's next incarnation, as docs/protocol.md describes."""
    while True:
        number = int(ask_until_answered(url, "HINCRBY", KEYS.incarnations, agent, 1))
        known = ask_until_answered(url, "HGET", KEYS.agents, agent)
        if not known or json.loads(known)["incarnation"] < number:
            return number


def signal(number: int) -> tuple[str, dict[str, Any]]:
    """Return type and payload of the signal with this number."""
    if number % 5 == 0:
        return "PARTIAL_RESULT", {
            "partial": {"findings": [{"key": f"by hand/{number}", "value": number}]}
        }
    return "PROGRESS", {"percent": min(99, number // 10)}


class RawSender:
    """One agent, and the number of its last signal."""

    def __init__(self, url: str, directory: Path, how: str) -> None:
        self._url = url
        self._directory = directory
        self._agent = f"by-{how}"
        self._journal = Journal(record(directory, RAW_SESSION, self._agent))
        self._incarnation = enrolled(url, self._agent)
        self._seq = 0
        self._journal.note("began", inc=self._incarnation)

    def _next(self, kind: str, payload: dict[str, Any]) -> dict[str, Any]:
        self._seq += 1
        text = msgspec.json.encode(payload).decode()
        place = {"inc": self._incarnation, "seq": self._seq}
        self._journal.note("sending", type=kind, payload=text, **place)
        return {
            "session": RAW_SESSION, "type": kind, "emitter": self._agent, "seq": self._seq,
            "incarnation": self._incarnation, "payload": text,
        }  # fmt: skip

    def _sent(self, number: int, entry_id: str) -> None:
        self._journal.note("sent", inc=self._incarnation, seq=number, id=entry_id)

    def add(self) -> None:
        """XADD until the run is over."""
        while not is_over(self._directory):
            self._add(*signal(self._seq + 1))
            time.sleep(PAUSE_S)
        self._add("COMPLETED", {})
        self._journal.note("ended", how="")

    def _add(self, kind: str, payload: dict[str, Any]) -> None:
        flat = [part for pair in self._next(kind, payload).items() for part in pair]
        self._sent(self._seq, ask_until_answered(self._url, "XADD", PARTITION.signals, "*", *flat))

    def emit(self) -> None:
        """Run `fabric emit -` until the run is over; signals without an id are not acknowledged."""
        while not is_over(self._directory):
            self._feed([signal(self._seq + 1 + n) for n in range(LINES)])
        self._feed([("COMPLETED", {})])
        self._journal.note("ended", how="")

    def _feed(self, said: list[tuple[str, dict[str, Any]]]) -> None:
        with subprocess.Popen(
            [sys.executable, "-m", "fabric.cli", "emit", "-", "--redis-url", self._url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as program:
            assert program.stdin is not None
            assert program.stdout is not None
            first = self._seq + 1
            for kind, payload in said:
                document = self._next(kind, payload)
                document["payload"] = json.loads(document["payload"])
                program.stdin.write(json.dumps(document).encode() + b"\n")
            program.stdin.close()
            ids = program.stdout.read().split()
        if len(ids) == len(said):
            for number, entry_id in enumerate(ids, first):
                self._sent(number, entry_id.decode())


if __name__ == "__main__":
    hand = RawSender(sys.argv[1], Path(sys.argv[2]), sys.argv[3])
    hand.add() if sys.argv[3] == "xadd" else hand.emit()
