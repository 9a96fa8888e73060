"""What the loop asks of a worker: the orchestrator steps signals, the synthesizer folds results."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from fabric.store.port import Batch, Entry


@dataclass(slots=True)
class Decided:
    """The effects of the first `taken` inputs, ready to commit."""

    batch: Batch
    taken: int


class DefectError(Exception):
    """The rules failed on an input: a defect of ours, which must not stop the partition.

    The handler has noted the input and will leave it out when it is given the batch again; what the
    failed attempt has changed in memory must be thrown away.
    """


class Handler(Protocol):
    """Everything one kind of worker knows about one partition, in memory.

    All of it was read from the store, and all of it can be thrown away at any time.
    """

    async def prepare(self, entries: list[Entry]) -> list[Any]:
        """Decode entries and load the state that they need. Raises TamperedError, ServerError."""

    def decide(self, inputs: list[Any], now_ms: int) -> Decided:
        """Take inputs, from the first on, until the batch is full. Pure: no I/O, no clock.

        Raises DefectError.
        """

    async def alarms(self, timers: list[bytes]) -> list[Any]:
        """Turn timers that are due into inputs, loading the state that they need."""

    def next_due_ms(self) -> int | None:
        """Return the earliest time that a decision has set a timer for, since it was last asked."""

    def quarantine(self, key: str, reason: str) -> bool:
        """Keep a session's signals out because of a key; False when the key is no session's."""

    def forget(self) -> None:
        """Throw away what is in memory."""
