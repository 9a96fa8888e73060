"""The hook, `[escalations] hook` in the rule file: the program that is told of new questions.

It is an argument vector, never a line for a shell, so that nothing an agent asks can become a
command. The question comes on its standard input, as JSON. A run that fails is logged and not
repeated.

The core sets a timer for each question that the hook must hear of. The timer stands until a run for
it is over, so the hook hears of each question at least once, whatever happens to the workers.
"""

from __future__ import annotations

import asyncio
import logging
import tempfile
from functools import partial
from typing import Final

import msgspec

from fabric.core.session import SessionState
from workers.child_process import Background, RunError, run

logger = logging.getLogger("fabric.hook")

#: The names of such timers begin with this; the question's id follows.
PREFIX: Final = "hook:"

#: Longest time that one run may take, s. It has only to pass the question on.
LIMIT_SECONDS: Final = 60.0

#: Time between two looks at a run, ms.
PAUSE_MS = 2_000

_encode = msgspec.json.Encoder().encode


class Hook:
    """Runs the program once for each key, in the background, each time for at most `limit_s`."""

    def __init__(
        self, argv: tuple[str, ...], turns: asyncio.Semaphore, limit_s: float = LIMIT_SECONDS
    ) -> None:
        self._argv = argv
        self._limit_s = limit_s
        self._background = Background(turns)
        self._runs: dict[bytes, asyncio.Task[None]] = {}

    def is_notified(self, session: SessionState, timer: str, key: bytes) -> bool:
        """Begin to notify the hook of a timer's question; True when nothing is left to do."""
        question = timer.removeprefix(PREFIX)
        record = session.escalations.get(question)
        if not self._argv or record is None or self.ended(key):
            return True
        # Through JSON: what the asker added is JSON already, whatever its type.
        fields = msgspec.json.decode(_encode(record))
        self.start(key, _encode({"session": session.name, "id": question, **fields}))
        return False

    def start(self, key: bytes, document: bytes) -> None:
        """Run the program with a document as its input, unless a run for the key is under way."""
        if key not in self._runs:
            run = self._background.start(partial(self._run, document))
            if run is not None:
                self._runs[key] = run

    def ended(self, key: bytes) -> bool:
        """Say whether the run for a key is over, well or not; if so, it is forgotten."""
        run = self._runs.get(key)
        if run is None or not run.done():
            return False
        del self._runs[key]
        return True

    async def close(self) -> None:
        """Kill what still runs, and wait for its end; none of it counts as ended."""
        self._runs.clear()
        await self._background.close()

    async def _run(self, document: bytes) -> None:
        try:
            with tempfile.TemporaryFile() as given:
                given.write(document)
                given.seek(0)
                # The program may leave something running in the background, to send a mail say.
                await run(self._argv, given, None, self._limit_s, leaves_others=True)
        except (OSError, RunError) as error:
            cause = error.strerror if isinstance(error, OSError) else None
            failure = f"cannot be started: {cause}" if cause else error
            # Only the program's name: its arguments may hold a token, the document is the agents'.
            logger.error("hook %s %s; the question stays open", self._argv[0], failure)
