"""The processes of a run: killed, frozen, and started again."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tests.chaos.roster import MORTAL
from tests.support.daemon import environment
from tests.support.servers import ROOT

#: Time for a process of agents to print its tasks, s.
TELL_SECONDS = 1.0
#: Time for a process to end after SIGTERM, s.
END_SECONDS_MAX = 30.0


class Slot:
    """A process that can be restarted. One file keeps its standard error over all its lives."""

    def __init__(
        self,
        kind: str,
        name: str,
        argv: Callable[[int], Sequence[str]],
        said: Path,
        *,
        tree: Path = ROOT,
        extra: Mapping[str, str] | None = None,
    ) -> None:
        """`argv` makes the arguments for its n-th life; `tree` is the source that it runs."""
        self.kind = kind
        self.name = name
        self.tree = tree
        self.extra = dict(extra or {})
        self.lives = 0
        self.is_frozen = False
        self._argv = argv
        self._said = said
        self._process: subprocess.Popen[bytes] | None = None
        #: Held while we kill it, so that this end does not count as unexpected.
        self._turn = threading.Lock()

    def start(self) -> None:
        """Start its next life."""
        self.lives += 1
        self.is_frozen = False
        with self._said.open("ab") as said:
            self._process = subprocess.Popen(
                [sys.executable, "-m", *self._argv(self.lives)],
                cwd=self.tree,
                env=environment() | {"PYTHONPATH": str(self.tree)} | self.extra,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
            )

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def code(self) -> int | None:
        """Return its exit code; None while it runs."""
        return self._process.poll() if self._process is not None else 0

    @property
    def is_alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        """SIGKILL, and wait for its end."""
        with self._turn:
            if self._process is not None:
                self._process.kill()
                self._process.wait()
                self._process = None

    def fallen(self) -> int | None:
        """Return the exit code if it ended by itself, else None."""
        with self._turn:
            return self._process.poll() if self._process is not None else None

    def freeze(self) -> None:
        """SIGSTOP, as if its host paused for long."""
        self.is_frozen = True
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        self.is_frozen = False
        os.kill(self.pid, signal.SIGCONT)

    def end(self) -> int:
        """SIGTERM, and wait for its end, or kill it; return the exit code."""
        if self._process is None:
            return 0
        self._process.terminate()
        return self.wait(END_SECONDS_MAX)

    def wait(self, seconds_max: float) -> int:
        """Wait for its end; if it does not end, have agents print their tasks, and kill it."""
        if self._process is None:
            return 0
        try:
            code = self._process.wait(seconds_max)
        except subprocess.TimeoutExpired:
            if self.kind == HOST:
                self._process.send_signal(signal.SIGUSR1)
                time.sleep(TELL_SECONDS)
            self.kill()
            return -signal.SIGKILL
        self._process = None
        return code

    def said(self) -> str:
        return self._said.read_text(errors="replace") if self._said.exists() else ""


#: Kinds of processes.
ORCHESTRATOR, SYNTHESIZER = "orchestrator", "synthesizer"
HOST, BULK_SENDER, RAW_SENDER, ROGUE, PERSON = "host", "crowd", "hand", "rogue", "person"
WORKERS = (ORCHESTRATOR, SYNTHESIZER)
#: Kinds that end by themselves when the run is over.
SENDERS = (HOST, BULK_SENDER, RAW_SENDER, ROGUE, MORTAL)


class Fleet:
    """All processes but the servers."""

    def __init__(self) -> None:
        self.slots: list[Slot] = []
        #: Processes that ended unexpectedly.
        self.fallen: list[str] = []

    def add(self, slot: Slot) -> Slot:
        self.slots.append(slot)
        return slot

    def of(self, *kinds: str) -> list[Slot]:
        return [slot for slot in self.slots if slot.kind in kinds]

    def look(self) -> None:
        """Restart processes that ended by themselves, and note them in `fallen`."""
        for slot in self.slots:
            code = slot.fallen()
            if code is not None:
                self.fallen.append(f"{slot.name} ended by itself with {code}")
                slot.start()

    def remove(self, *kinds: str) -> None:
        """Forget the processes of these kinds, which have ended."""
        self.slots = [slot for slot in self.slots if slot.kind not in kinds]

    def close(self) -> None:
        """Kill every process that still runs."""
        for slot in self.slots:
            slot.kill()
