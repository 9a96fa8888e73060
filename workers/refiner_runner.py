"""Runs of refiners: read a session's document, give it to a process, check what that answers.

A run goes on in the background and changes nothing but its own `Run`. Whatever goes wrong is
logged, but never a word of the document or of what the refiner says: either may be a secret.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from math import ceil
from typing import IO, Final

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from fabric.core.rules import Rules
from fabric.core.signal import Refined
from fabric.core.synthesis.part import canonical_raw
from fabric.core.synthesis.publish import COMPLETE, REVISION
from fabric.core.synthesis.state import SECTIONS
from fabric.errors import ServerError, SignalError, TamperedError
from fabric.store.keys import SessionKeys
from fabric.store.port import WorkerStore
from fabric.store.synthesis import HEAD, is_published
from fabric.wire import signal_error
from workers import child_process
from workers.child_process import Background, RunError
from workers.refiner import ANSWER_BYTES_MAX

logger = logging.getLogger("fabric.refining")

#: Characters of what a process says of its failure that are logged.
ERROR_CHARS_MAX = 300

#: A process ends itself this long after its limit, s, in case its worker was killed meanwhile.
ORPHAN_SECONDS = 5

#: Parts of a document that is read with one request. The server needs some 10 ms for so many, and
#: does nothing else meanwhile; and no model reads as much.
PARTS_MAX: Final = 20_000

#: Bytes of the parts of such a document.
PARTS_BYTES_MAX: Final = 16_777_216

#: Parts asked for in one request while they are counted: each may be as large as a payload.
PAGE_PARTS = 100

_encode = msgspec.json.Encoder().encode


class _Answer(Struct):
    value: Raw | UnsetType = UNSET
    error: str | UnsetType = UNSET


_decode_answer = msgspec.json.Decoder(_Answer).decode


class Run:
    """One run of a refiner on a session's document, under way or over."""

    def __init__(self, session: str, refiner: str) -> None:
        self.session = session
        self.refiner = refiner
        self.task: asyncio.Task[None] | None = None
        #: It no longer waits for other runs to end.
        self.has_turn = False
        #: The revision that it was given, and the latest one that is worth a run.
        self.revision = 0
        self.wanted = 0
        #: The refiner's answer, as a signal's payload; empty when there is none.
        self.payload = b""
        #: The connection failed, not the refiner.
        self.is_to_repeat = False

    def is_over(self) -> bool:
        """Whether it came to its end, well or not; a run that was killed with us did not."""
        return self.task is not None and self.task.done() and not self.task.cancelled()


class RefinerRunner:
    """Runs the refiners that the rules name and that are installed, for one partition.

    `turns` bounds the runs of all partitions of a worker.
    """

    def __init__(
        self, names: Sequence[str], rules: Rules, turns: asyncio.Semaphore | None = None
    ) -> None:
        self.names = tuple(names)
        self.pause_ms = rules.refine_pause_ms
        self._limit_s = rules.refine_ms_max / 1000
        self._background = Background(turns or asyncio.Semaphore(child_process.PROCESSES_MAX))

    def start(self, run: Run, store: WorkerStore, keys: SessionKeys) -> None:
        """Begin a run in the background; nothing after `close`."""
        run.task = self._background.start(partial(self._run, run, store, keys))

    async def close(self) -> None:
        """Kill what still runs, and wait for its end."""
        await self._background.close()

    async def _run(self, run: Run, store: WorkerStore, keys: SessionKeys) -> None:
        run.has_turn = True
        try:
            await self._refine(run, store, keys)
        except RunError as error:
            logger.error("refiner %s of session %s: %s", run.refiner, run.session, error)
        except Exception:
            # A defect of ours. The session's next revision is another chance.
            logger.exception("refiner %s of session %s", run.refiner, run.session)

    async def _refine(self, run: Run, store: WorkerStore, keys: SessionKeys) -> None:
        fields = await _read_for_run(run, store, keys)
        if REVISION not in fields:
            return
        run.revision = int(fields[REVISION])
        with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as answer:
            # In a thread: a large document takes a while, and the worker must not wait for it.
            try:
                await asyncio.to_thread(write_document, given, run.session, fields)
            except msgspec.MsgspecError:
                raise RunError("the synthesis has a foreign field, and is not read") from None
            del fields
            given.seek(0)
            seconds_max = ceil(self._limit_s) + ORPHAN_SECONDS
            # -P: do not import a folder that is called `workers` in the working directory.
            argv = [sys.executable, "-P", "-m", "workers.refiner", run.refiner]
            await child_process.run(
                [*argv, "--seconds-max", str(seconds_max)], given, answer, self._limit_s
            )
            answer.seek(0)
            said = answer.read(ANSWER_BYTES_MAX + 1)
        run.payload = await asyncio.to_thread(_payload, run, said)


async def _read_for_run(run: Run, store: WorkerStore, keys: SessionKeys) -> dict[str, bytes]:
    try:
        return await read_document(store, keys)
    except TamperedError as error:
        raise RunError(f"is not run: {error}") from None
    except ServerError as error:
        run.is_to_repeat = True
        raise RunError(f"is run later: {error}") from None


def _payload(run: Run, said: bytes) -> bytes:
    """Return a run's answer as a signal's payload, empty when it has none."""
    try:
        answer = _decode_answer(said)
        if isinstance(answer.error, str):
            raise RunError(f"failed: {answer.error[:ERROR_CHARS_MAX]}")
        if answer.value is UNSET or answer.value == Raw(b"null"):
            return b""
        payload = _encode(Refined(run.refiner, canonical_raw(answer.value), run.revision))
        signal_error.check_payload(payload)
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        kind = type(error).__name__
        raise RunError(f"its answer does not fit into a signal ({kind})") from None
    except SignalError as error:
        raise RunError(f"its answer does not fit into a signal: {error}") from None
    return payload


async def read_document(store: WorkerStore, keys: SessionKeys) -> dict[str, bytes]:
    """Return all fields of a synthesis, as of one revision; empty when there is none.

    One request reads it whole: pages read while results come in would be of no one revision. The
    pages before only find out whether the document may be read at once. Raises RunError when it is
    too large, and ServerError.
    """
    await _check_size(store, keys)
    (found,) = await store.hashes([keys.synthesis])
    return {name.decode(): value for name, value in found.items()}


async def _check_size(store: WorkerStore, keys: SessionKeys) -> None:
    """Count the parts and bytes of a synthesis, by the index of each agent's parts."""
    (agents,) = await store.hashes([keys.agents])
    seen: set[str] = set()
    size = 0
    for agent in agents:
        said, after = keys.said(agent.decode()), ""
        while names := await store.members(said, "", after, PAGE_PARTS):
            after = names[-1]
            new = [name for name in names if name not in seen]
            seen.update(new)
            if new:
                values = await store.fields(keys.synthesis, new)
                size += sum(len(value or b"") for value in values)
            if len(seen) > PARTS_MAX or size > PARTS_BYTES_MAX:
                raise RunError(
                    f"is not run: the document has more than {PARTS_MAX} parts "
                    f"or {PARTS_BYTES_MAX} bytes"
                )


def write_document(file: IO[bytes], session: str, fields: dict[str, bytes]) -> None:
    """Write the document that the fields of a synthesis make up, as JSON.

    Raises MsgspecError when the fabric did not write one of the fields.
    """
    sections: dict[str, list[bytes]] = {section: [] for section in SECTIONS}
    for field in sorted(fields.keys() - set(HEAD)):
        if is_published(field, fields[field]):
            section, _, name = field.partition(":")
            sections[section].append(_encode(name) + b":" + fields[field])
    head = b'{"session":%s,"revision":%s,"complete":%s'
    file.write(head % (_encode(session), fields[REVISION], fields[COMPLETE]))
    for section, members in sections.items():
        file.write(b',"%s":{%s}' % (section.encode(), b",".join(members)))
    file.write(b"}")
