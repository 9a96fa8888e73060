"""One run of a refiner on a session's document, from reading that to what is to be sent of it.

It is in the background, and touches nothing but its own `Run`. Whatever goes wrong is logged, and
never with a word of the document, or of what the refiner's code says: either may be a secret.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import tempfile
from collections.abc import Sequence
from math import ceil
from typing import Final

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from fabric.core.rules import Rules
from fabric.core.signal import Refined
from fabric.core.synthesis.part import canonical_raw
from fabric.core.synthesis.publish import REVISION
from fabric.errors import ServerError, SignalError, TamperedError
from fabric.store.keys import SessionKeys
from fabric.store.port import WorkerStore
from fabric.wire import signal_error
from workers import child, snapshot
from workers.refiner import ANSWER_BYTES_MAX

logger = logging.getLogger("fabric.refining")

#: Runs at a time, each with its document; others wait their turn. Many sessions must not take the
#: machine, and a refiner that hangs must not keep all others from their turn.
PROCESSES_MAX: Final = 4

#: Characters of what a process says of its failure that are logged.
ERROR_CHARS_MAX = 300

#: Time that a process has beyond its limit before it ends itself, whose worker was killed, s.
ORPHAN_SECONDS = 5

_encode = msgspec.json.Encoder().encode


class _Answer(Struct):
    value: Raw | UnsetType = UNSET
    error: str | UnsetType = UNSET


_decode_answer = msgspec.json.Decoder(_Answer).decode


class _FailedError(Exception):
    """A run has come to nothing: what is to be said of it, no secret among it."""


class Run:
    """One run of a refiner on a session's document, under way or over."""

    def __init__(self, session: str, refiner: str) -> None:
        self.session = session
        self.refiner = refiner
        self.task: asyncio.Task[None] | None = None
        #: It is no longer waiting for others to end.
        self.has_turn = False
        #: The revision that it was given, and the latest one worth a run.
        self.revision = 0
        self.wanted = 0
        #: What it has to say, as a signal's payload.
        self.payload = b""
        #: Nobody is to blame but the connection.
        self.is_to_repeat = False

    def is_over(self) -> bool:
        """Whether it came to its end, well or not; one that was killed with us did not."""
        return self.task is not None and self.task.done() and not self.task.cancelled()


class Refiners:
    """Runs the refiners that the rules name and that are installed.

    One for all partitions of a worker: it bounds the runs.
    """

    def __init__(self, names: Sequence[str], rules: Rules) -> None:
        self.names = tuple(names)
        self.pause_ms = rules.refine_pause_ms
        self._limit_s = rules.refine_ms_max / 1000
        self._turns = asyncio.Semaphore(PROCESSES_MAX)
        #: Held here until they have ended, whoever has lost interest in them.
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, run: Run, store: WorkerStore, keys: SessionKeys) -> None:
        """Begin a run, in the background."""
        run.task = asyncio.create_task(self._take_turn(run, store, keys))
        self._tasks.add(run.task)
        run.task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Kill what still runs, and wait for its end."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _take_turn(self, run: Run, store: WorkerStore, keys: SessionKeys) -> None:
        async with self._turns:
            run.has_turn = True
            try:
                await self._refine(run, store, keys)
            except _FailedError as error:
                logger.error("refiner %s of session %s: %s", run.refiner, run.session, error)
            except Exception:
                # A defect of ours; the session's next revision is another chance.
                logger.exception("refiner %s of session %s", run.refiner, run.session)

    async def _refine(self, run: Run, store: WorkerStore, keys: SessionKeys) -> None:
        fields = await _fields(run, store, keys)
        if REVISION not in fields:
            return
        run.revision = int(fields[REVISION])
        with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as answer:
            # Large documents take a while: in a thread, so that nobody waits for it.
            try:
                await asyncio.to_thread(snapshot.write, given, run.session, fields)
            except msgspec.MsgspecError:
                raise _FailedError("the synthesis has a foreign field, and is not read") from None
            del fields
            given.seek(0)
            seconds_max = ceil(self._limit_s) + ORPHAN_SECONDS
            # -P: a folder called `workers` where we were called is not the one meant.
            argv = [sys.executable, "-P", "-m", "workers.refiner", run.refiner]
            try:
                code = await child.run(
                    [*argv, "--seconds-max", str(seconds_max)], given, answer, self._limit_s
                )
            except TimeoutError:
                limit = f"{self._limit_s:g} s"
                raise _FailedError(f"has not ended within {limit} and was killed") from None
            except OSError as error:
                raise _FailedError(f"cannot be started: {error.strerror}") from None
            answer.seek(0)
            said = answer.read(ANSWER_BYTES_MAX + 1)
        if code:
            raise _FailedError(_end(code))
        run.payload = await asyncio.to_thread(_payload, run, said)


async def _fields(run: Run, store: WorkerStore, keys: SessionKeys) -> dict[str, bytes]:
    try:
        return await snapshot.read(store, keys)
    except snapshot.ExcessError as error:
        raise _FailedError(f"is not run: the document has {error}") from None
    except TamperedError as error:
        raise _FailedError(f"is not run: {error}") from None
    except ServerError as error:
        run.is_to_repeat = True
        raise _FailedError(f"is run later: {error}") from None


def _end(code: int) -> str:
    if code > 0:
        return f"ended with exit code {code}"
    return f"was ended by signal {-code}; it may have wanted too much memory"


def _payload(run: Run, said: bytes) -> bytes:
    """Return what a run has to say as a signal's payload, empty for nothing."""
    try:
        answer = _decode_answer(said)
        if isinstance(answer.error, str):
            raise _FailedError(f"failed: {answer.error[:ERROR_CHARS_MAX]}")
        if answer.value is UNSET or answer.value == Raw(b"null"):
            return b""
        payload = _encode(Refined(run.refiner, canonical_raw(answer.value), run.revision))
        signal_error.check_payload(payload)
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        kind = type(error).__name__
        raise _FailedError(f"has answered with what no signal can hold ({kind})") from None
    except SignalError as error:
        raise _FailedError(f"has answered with what no signal can hold: {error}") from None
    return payload
