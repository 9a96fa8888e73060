"""Refiners: users' code that makes something of a document while that still grows.

A revision sets a timer for each refiner that the rules name. When it is due, a run begins in the
background: it reads the document, gives it to a process (`refiner.py`), and checks the answer. The
timer is put off until the run is over; then one commit sends the answer, as the signal REFINED, and
removes the timer. So a run that died with its worker is made again, nothing is sent twice, and the
fold, which gets the answer like any other signal, stays a function of its input alone.

Whatever goes wrong is logged, but never a word of the document or of what the refiner says: either
may be a secret.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import tempfile
import zlib
from collections.abc import Sequence
from functools import partial
from math import ceil
from typing import IO, Final

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from fabric.core.event import SYNTHESIZER
from fabric.core.rules import Rules
from fabric.core.signal import Refined, SignalType
from fabric.core.synthesis.canonical import canonical_raw
from fabric.core.synthesis.publish import COMPLETE, REVISION, Revision
from fabric.core.synthesis.state import REFINED, SECTIONS
from fabric.errors import ServerError, SignalError, TamperedError
from fabric.store.keys import SYNTHESIZERS, Partition, SessionKeys
from fabric.store.port import Batch, WorkerStore
from fabric.store.synthesis import HEAD, REFINING, Refining, is_published, refining_field
from fabric.wire import record, signal_error
from fabric.wire.stored import text
from workers import child_process
from workers.child_process import PROCESSES_MAX, Background, RunError
from workers.handler import DueTimer
from workers.refiner import ANSWER_BYTES_MAX

logger = logging.getLogger("fabric.refining")

#: A session's timers are `<session>:refine:<refiner>`.
TIMER: Final = "refine"

#: Time between two looks at a run, ms. Each look is a commit; but when a worker dies before it has
#: seen a run's end, the run is made again.
LOOK_MS = 250

#: Characters of what a process says of its failure that are logged.
ERROR_CHARS_MAX = 300

#: A process ends itself this long after its limit, s, in case its worker was killed meanwhile.
ORPHAN_SECONDS = 5

#: Refiners' memories that are kept: each is an open file. One that is lost costs a whole run.
MEMORIES_MAX = 64

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


class RefinementTimer(DueTimer):
    """A refiner's timer that is due, as an input of the synthesizer."""

    def __init__(self, member: bytes) -> None:
        super().__init__(member)
        self.refiner = self.name.removeprefix(f"{TIMER}:")


class Run:
    """One run of a refiner on a session's document, under way or over."""

    def __init__(self, session: str, refiner: str, *, is_markdown: bool = False) -> None:
        self.session = session
        self.refiner = refiner
        self.task: asyncio.Task[None] | None = None
        #: It no longer waits for other runs to end.
        self.has_turn = False
        #: The revision that it was given, and the latest one that is worth a run.
        self.revision = 0
        self.wanted = 0
        #: What it writes is shown as Markdown.
        self.is_markdown = is_markdown
        #: The refiner's answer, as a signal's payload; empty when there is none.
        self.payload = b""
        #: The connection failed, not the refiner.
        self.is_to_repeat = False

    def is_over(self) -> bool:
        """Whether it came to its end, well or not; a run that was killed with us did not."""
        return self.task is not None and self.task.done() and not self.task.cancelled()


class Refinements:
    """The refinements of one partition's sessions: which are due, and which are under way.

    `names` are the refiners that the rules name and that are installed, `turns` bounds the runs of
    all partitions of a worker.
    """

    def __init__(
        self,
        store: WorkerStore,
        partition: Partition,
        names: Sequence[str],
        rules: Rules,
        turns: asyncio.Semaphore | None = None,
    ) -> None:
        self._store = store
        self._partition = partition
        self._names = names
        self._pause_ms = rules.refine_pause_ms
        self._is_markdown = rules.markdown
        self._limit_s = rules.refine_ms_max / 1000
        self._background = Background(turns or asyncio.Semaphore(PROCESSES_MAX))
        self._runs: dict[bytes, Run] = {}
        #: Timers that are known to be set: setting one again would put it off.
        self._set: set[bytes] = set()
        #: What refiners keep of sessions, the least recently used first.
        self._memories: dict[tuple[str, str], IO[bytes]] = {}

    def start(self, member: bytes) -> RefinementTimer | None:
        """Begin the run that a timer asks for, unless it is under way; None for another timer."""
        timer = RefinementTimer(member)
        if member != f"{timer.session}:{TIMER}:{timer.refiner}".encode():
            return None
        if timer.refiner in self._names and member not in self._runs:
            run = self._runs[member] = Run(
                timer.session, timer.refiner, is_markdown=self._is_markdown
            )
            run.task = self._background.start(partial(self._run, run))
        return timer

    def finish(self, batch: Batch, timer: RefinementTimer, now_ms: int) -> int | None:
        """Send a run's answer, or look again later; return when to look, None for never."""
        run = self._runs.get(timer.member)
        synthesis = self._partition.session(timer.session).synthesis
        due_ms: int | None = None
        if run is None and timer.refiner not in self._names:
            logger.warning("nothing here is the refiner %s of %s", timer.refiner, timer.session)
            # Nobody may wait for it.
            batch.write_fields(synthesis, [(REFINING, None)])
        elif run is None or not run.is_over():
            # The more runs wait for their turn, the less often each is looked at.
            crowd = 0 if run is None or run.has_turn else len(self._runs) // PROCESSES_MAX
            due_ms = now_ms + LOOK_MS * (1 + crowd)
        else:
            del self._runs[timer.member]
            if run.payload:
                own = record.own_signal(run.session, SignalType.REFINED, SYNTHESIZER, run.payload)
                batch.append(self._partition.signals, "*", *own)
                batch.size_bytes += len(run.payload)
            elif run.revision:
                nothing = (refining_field(run.refiner), b"%d" % run.revision)
                batch.write_fields(synthesis, [nothing])
            if run.wanted > run.revision or run.is_to_repeat:
                due_ms = self._next_beat(timer.member, now_ms)
        timers = self._partition.timers(SYNTHESIZERS)
        if due_ms is None:
            self._set.discard(timer.member)
            batch.write("ZREM", timers, (text(timer.member),))
        else:
            self._set.add(timer.member)
            batch.write("ZADD", timers, (due_ms, text(timer.member)))
        return due_ms

    def plan(self, batch: Batch, session: str, revision: Revision, now_ms: int) -> int | None:
        """Set the timers for a revision; return the earliest time set, None when none is.

        A revision that says only what a refiner has made of another is no news to refiners.
        """
        sections = {operation.section for operation in revision.operations}
        if not revision.number or sections == {REFINED}:
            return None
        due: list[int] = []
        if self._names:
            wanted = _encode(Refining(revision.number, [*self._names]))
            keys = self._partition.session(session)
            batch.write_fields(keys.synthesis, [(REFINING, wanted)])
        for refiner in self._names:
            member = f"{session}:{TIMER}:{refiner}".encode()
            run = self._runs.get(member)
            if run is not None:
                run.wanted = revision.number
            if member not in self._set:
                self._set.add(member)
                due.append(self._next_beat(member, now_ms))
                batch.write("ZADD", self._partition.timers(SYNTHESIZERS), (due[-1], text(member)))
        return min(due, default=None)

    def _next_beat(self, member: bytes, now_ms: int) -> int:
        """Return when a refiner may run next: each timer has a beat of its own, one a pause.

        The beat follows from the name alone, so that no worker, however often it is killed, begins
        the pause anew; and sessions differ in it.
        """
        return now_ms + self._pause_ms - (now_ms - zlib.crc32(member)) % self._pause_ms

    def _memory(self, run: Run) -> IO[bytes]:
        """Return the file in which a refiner keeps what it made of a session's groups."""
        key = (run.session, run.refiner)
        file = self._memories.pop(key, None)
        if file is None:
            file = tempfile.TemporaryFile()  # noqa: SIM115 - it is open as long as the memory lasts
        self._memories[key] = file
        if len(self._memories) > MEMORIES_MAX:
            self._memories.pop(next(iter(self._memories))).close()
        return file

    def drop(self, session: str) -> None:
        """Kill what runs for a session that is deleted, and discard what is in memory of it."""
        mine = f"{session}:".encode()
        for member in [one for one in self._runs if one.startswith(mine)]:
            run = self._runs.pop(member)
            if run.task is not None:
                run.task.cancel()
        self._set = {member for member in self._set if not member.startswith(mine)}
        for key in [one for one in self._memories if one[0] == session]:
            self._memories.pop(key).close()

    def forget(self) -> None:
        """Kill what runs, and discard what is in memory; the timers stand."""
        for run in self._runs.values():
            if run.task is not None:
                run.task.cancel()
        self._runs.clear()
        self._set.clear()
        self._close_memories()

    async def close(self) -> None:
        """Kill what runs, and wait for its end; the timers stand, and nothing more begins."""
        await self._background.close()
        self._close_memories()

    def _close_memories(self) -> None:
        for file in self._memories.values():
            file.close()
        self._memories.clear()

    async def _run(self, run: Run) -> None:
        run.has_turn = True
        try:
            await self._refine(run)
        except RunError as error:
            logger.error("refiner %s of session %s: %s", run.refiner, run.session, error)
        except Exception:
            # A defect of ours. The session's next revision is another chance.
            logger.exception("refiner %s of session %s", run.refiner, run.session)

    async def _refine(self, run: Run) -> None:
        try:
            fields = await read_document(self._store, self._partition.session(run.session))
        except TamperedError as error:
            raise RunError(f"is not run: {error}") from None
        except ServerError as error:
            run.is_to_repeat = True
            raise RunError(f"is run later: {error}") from None
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
            # An open file without a name: it goes with us, however we end.
            memory = self._memory(run).fileno()
            argv += ["--seconds-max", str(seconds_max), "--memory", f"/dev/fd/{memory}"]
            await child_process.run(argv, given, answer, self._limit_s, kept=(memory,))
            answer.seek(0)
            said = answer.read(ANSWER_BYTES_MAX + 1)
        run.payload = await asyncio.to_thread(_payload, run, said)


def _payload(run: Run, said: bytes) -> bytes:
    """Return a run's answer as a signal's payload, empty when it has none."""
    try:
        answer = _decode_answer(said)
        if isinstance(answer.error, str):
            raise RunError(f"failed: {answer.error[:ERROR_CHARS_MAX]}")
        if answer.value is UNSET or answer.value == Raw(b"null"):
            return b""
        payload = _encode(
            Refined(run.refiner, canonical_raw(answer.value), run.revision, run.is_markdown)
        )
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
    pages before, by the index of each agent's parts, only find out whether the document may be read
    at once. Raises RunError when it is too large, and ServerError.
    """
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
    (found,) = await store.hashes([keys.synthesis])
    return {name.decode(): value for name, value in found.items()}


def write_document(file: IO[bytes], session: str, fields: dict[str, bytes]) -> None:
    """Write a synthesis as JSON. Raises MsgspecError when the fabric did not write a field."""
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
