"""Telling the hook of escalations: which question, in which words, and when it has been told.

The core sets a timer for each question that is to be told. It stands until a run for it is over, so
that a question is told at least once whatever happens to the workers meanwhile.
"""

from __future__ import annotations

from typing import Final

import msgspec

from fabric.core.rules import Rules
from fabric.core.session import SessionState
from workers.hook import Hook

#: What the keys of such timers begin with; the question's id follows.
PREFIX: Final = "hook:"

#: Longest time that one run may take, s. It has only to pass the question on.
LIMIT_SECONDS: Final = 60.0

#: Time between two looks at a run, ms.
PAUSE_MS = 2_000

_encode = msgspec.json.Encoder().encode


class Teller:
    """Runs the program that the rules name, if they name one. One a process: it bounds the runs."""

    def __init__(self, rules: Rules) -> None:
        self._hook = Hook(rules.hook, LIMIT_SECONDS) if rules.hook else None

    def is_told(self, session: SessionState, timer: str, key: bytes) -> bool:
        """Begin to tell the question of a timer, or say that nothing is left to do for it."""
        question = timer.removeprefix(PREFIX)
        record = session.escalations.get(question)
        if self._hook is None or record is None or self._hook.ended(key):
            return True
        # By way of its JSON: what the asker added is JSON already, whatever it is.
        fields = msgspec.json.decode(_encode(record))
        self._hook.start(key, _encode({"session": session.name, "id": question, **fields}))
        return False

    async def close(self) -> None:
        """End what still runs; who holds the partition next tells it again."""
        if self._hook is not None:
            await self._hook.close()
