"""Sending signals: prepared and checked, in order, retried, held back while the ingress is full.

Keep this module free of the settings and of the driver: `fabric emit` imports it, and those take
longer to import than a signal takes to send.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import KW_ONLY, dataclass
from enum import StrEnum
from typing import Any, TypeVar

from fabric import errors
from fabric.backoff import Backoff, Outage
from fabric.client.sent import SentSignals
from fabric.core.signal import GIVING, SignalType
from fabric.store.keys import ORCHESTRATORS, partition_of
from fabric.store.port import ClientStore
from fabric.wire.entry import decode, refuse_reserved
from fabric.wire.spelling import canonical, encode

T = TypeVar("T")

#: Ceilings of the first and of the longest pause before a signal is sent again, ms.
RETRY_FIRST_MS = 20
RETRY_LONGEST_MS = 1_000

#: Heartbeats kept to be sent again. There is one for each connection that broke over a heartbeat;
#: if even more were given up, the agent is told of a gap.
UNSURE_HEARTBEATS_MAX = 100

#: Hops of the message that is being handled, in this task and in the tasks that it starts.
handled_hops: ContextVar[int] = ContextVar("handled_hops", default=0)

#: Types of signals that name files.
RESOURCE_TYPES = frozenset({"STARTED", "INTENT", "RELEASE", "CONFLICT_DETECTED", "TASKS_ADDED"})

#: The same, and those whose findings may.
NAMING_TYPES = RESOURCE_TYPES | {kind.value for kind in GIVING}

#: Those of them that say in which copy of the files their agent works; and no copy.
WORKSPACE_TYPES = frozenset({"STARTED", "INTENT"})
NO_WORKSPACE = "none"

#: Signals that never count as answers. If one were refused for its hops, something would stay held
#: forever, or an agent would seem to work forever.
_NO_ANSWERS = frozenset(
    {SignalType.STARTED, SignalType.HEARTBEAT, SignalType.RELEASE}
    | {SignalType.INTEGRATED, SignalType.COMPLETED, SignalType.FAILED}
)

#: Bytes without which a payload holds no result: the names of its fields, or a JSON escape, behind
#: which any name can hide.
_RESULT_MARKS = (b"partial", b"result", b"\\u")


class WhenFull(StrEnum):
    """What to do while the ingress is over its limit."""

    WAIT = "wait"
    RAISE = "raise"


def prepare(
    document: Mapping[str, Any], defaults: Mapping[str, str | None], workspace: str | None = None
) -> list[bytes]:
    """Return a document, in any spelling, as a checked ingress entry. Raises SignalError.

    `defaults` fill in session, emitter, stream and instance where the document leaves them out;
    `workspace` is as in `with_names`.
    """
    fields = canonical(document)
    for field, value in defaults.items():
        if not fields.get(field):
            fields[field] = value
    payload = fields.get("payload", {})  # a STARTED may have none, and yet work in a copy
    if fields["type"] in NAMING_TYPES and isinstance(payload, dict):
        payload = with_names(fields["type"], payload, workspace)
        fields |= {"payload": payload} if payload else {}
    return checked(encode(fields))


def with_names(
    kind: str, payload: dict[str, Any], workspace: str | None = NO_WORKSPACE
) -> dict[str, Any]:
    """Return a payload with files as they are called in claims, by what is there (`path.py`).

    The paths of findings begin at the top of the project too.

    A STARTED or INTENT that names no copy of the files gets `workspace`; None stands for the one
    around the working directory.
    """
    if kind not in NAMING_TYPES:
        return payload
    # Imported late: most signals name no files.
    from fabric.devserver import path

    if kind not in RESOURCE_TYPES:
        return path.placed(payload)
    if kind in WORKSPACE_TYPES and "workspace" not in payload and workspace != NO_WORKSPACE:
        found = workspace or path.workspace()
        payload = {**payload, "workspace": found} if found else payload
    return path.named(kind, payload)


def checked(entry: list[bytes]) -> list[bytes]:
    """Return an ingress entry after all checks; every signal passes here before it is sent.

    Raises SignalError for what the orchestrator or the synthesizer would refuse.
    """
    signal = decode(entry)
    refuse_reserved(signal.emitter)
    if any(mark in signal.raw for mark in _RESULT_MARKS):
        # Takes longer to import than a signal takes to send, and most signals hold no result.
        from fabric.wire.result import check

        check(signal)
    return entry


async def submit(
    store: ClientStore,
    partitions: int,
    entries: Iterable[list[bytes]],
    *,
    ingress_max: int,
    limit_ms: int,
    when_full: WhenFull = WhenFull.WAIT,
) -> list[str]:
    """Send checked entries; return their ingress ids, in order.

    All entries of a partition go in together or not at all. After a lost reply they are sent again
    if each has a sequence number, by which the core recognises a repeat; otherwise UnreachableError
    is raised.
    """
    ready = list(entries)
    signals = [decode(entry) for entry in ready]
    parts: dict[int, list[int]] = {}
    deadline = asyncio.get_running_loop().time() + limit_ms / 1000
    for number, signal in enumerate(signals):
        parts.setdefault(partition_of(signal.session, partitions), []).append(number)
    ids: dict[int, bytes] = {}
    for partition, numbers in parts.items():
        emitter = Emitter(
            store, partition, ingress_max=ingress_max, when_full=when_full, limit_ms=limit_ms
        )
        sent = await emitter.send(
            [ready[number] for number in numbers],
            numbered=all(signals[number].seq for number in numbers),
            deadline=deadline,
        )
        ids |= zip(numbers, sent, strict=True)
    return [ids[number].decode() for number in sorted(ids)]


@dataclass(eq=False)
class Emitter:
    """Appends entries to the ingress of one partition, in the order of the calls.

    `limit_ms` bounds how long one call is retried, through reconnects and back-pressure. What makes
    several calls gives them one `deadline`, a time of the event loop's clock.
    """

    store: ClientStore
    partition: int
    _: KW_ONLY
    ingress_max: int
    limit_ms: int
    when_full: WhenFull = WhenFull.WAIT
    #: Called with the resources that an agent is about to claim (`occupancy.py`); may refuse it.
    occupy: Callable[[Iterable[str]], Awaitable[None]] | None = None

    def deadline(self) -> float:
        """Return when what begins now is given up."""
        return asyncio.get_running_loop().time() + self.limit_ms / 1000

    async def send(
        self,
        entries: Sequence[Sequence[bytes]],
        *,
        numbered: bool = True,
        group: str = ORCHESTRATORS,
        deadline: float | None = None,
        before: Callable[[], Awaitable[int | None]] | None = None,
    ) -> list[bytes]:
        """Append entries to the stream that a group of workers reads, and return their ids.

        `before` runs before each try, and says on which connection alone it may be made.

        Numbered signals are sent again after a lost reply: the core drops repeats. For others, a
        lost reply raises UnreachableError, since they may have arrived; UnavailableError says that
        they did, but on too few replicas. Raises OverloadedError if the ingress is full, at once or
        after the time limit, as `when_full` says.
        """
        store, partition, most = self.store, self.partition, self.ingress_max

        async def attempt() -> list[bytes]:
            for is_last in (False, True):
                try:
                    if before is None or (connection := await before()) is None:
                        break
                    return await store.emit(partition, entries, most, group, connection=connection)
                except errors.ReconnectedError:
                    if is_last:
                        raise
            return await store.emit(partition, entries, most, group)

        return await self.retry(attempt, repeatable=numbered, deadline=deadline)

    async def retry(
        self,
        call: Callable[[], Awaitable[T]],
        *,
        repeatable: bool = True,
        deadline: float | None = None,
    ) -> T:
        """Make a call until it succeeds; after the time limit raise its last error.

        A call that is not `repeatable` is not made again if it may have taken effect. The error's
        `never_sent` says that none of the calls has.
        """
        unsure = False
        backoff = Backoff(RETRY_FIRST_MS, RETRY_LONGEST_MS)
        loop = asyncio.get_running_loop()
        deadline = self.deadline() if deadline is None else deadline
        while True:
            pause_s = backoff.next_s()
            try:
                return await call()
            except errors.OverloadedError as error:
                failure: errors.ServerError = error
                is_final = self.when_full is WhenFull.RAISE
            except errors.UnreachableError as error:
                failure, unsure = error, unsure or not error.never_sent
                is_final = not (repeatable or error.never_sent)
            except errors.UnavailableError as error:
                failure, unsure = error, unsure or error.took_effect
                is_final = error.took_effect and not repeatable
            if is_final or loop.time() + pause_s > deadline:
                failure.never_sent = not unsure
                raise failure
            await asyncio.sleep(pause_s)


class Sender:
    """Sends one agent's signals, numbered in the order of sending within one incarnation.

    `begin` must have given it an incarnation. `on_sent` is called with every signal that was sent.
    """

    def __init__(self, emitter: Emitter, session: str, name: str, stream: str) -> None:
        self.incarnation = 0
        #: The living process that STARTED names.
        self.instance = ""
        self.has_ended = True
        #: Why this incarnation is over, though it has not ended itself.
        self.over: errors.EndedError | None = None
        self.on_sent: Callable[[SignalType, dict[str, Any]], None] = lambda kind, payload: None
        self.emitter = emitter
        self._session = session
        self.name = name
        self._stream = stream
        self.seq = 0
        #: Heartbeats that were given up and may have arrived, by number. They go before the next
        #: signal, so that no number is missing for a signal that says nothing.
        self._unsure: deque[tuple[int, list[bytes]]] = deque(maxlen=UNSURE_HEARTBEATS_MAX)
        self._sent = SentSignals(session, name)
        #: Called when the server had lost signals, which were sent again: with the last number that
        #: it had kept, and the first that was sent again.
        self.on_lost: Callable[[int, int], None] = lambda known, first: None
        self._turn = asyncio.Lock()
        self._sent_at = 0.0

    def begin(self, incarnation: int, instance: str = "") -> None:
        """Send as this incarnation from now on, beginning with number 1."""
        self.incarnation, self.instance = incarnation, instance
        self.seq, self.has_ended, self.over = 0, False, None
        self._unsure.clear()
        self._sent.begin(incarnation)

    async def send(
        self,
        kind: SignalType,
        payload: dict[str, Any],
        *,
        on_number: Callable[[int], None] | None = None,
        deadline: float | None = None,
    ) -> str:
        """Send a signal after those that were asked for before it; return its ingress id.

        `on_number` is called with the signal's number before it is sent. The time for its turn
        counts too; at its turn it is tried once at least. Raises SignalError before anything is
        sent, NotAllowedError if the agent has ended.
        """
        deadline = self.emitter.deadline() if deadline is None else deadline
        async with self._turn:
            return await self._send(kind, payload, on_number, deadline)

    async def release(
        self, choose: Callable[[], list[str]], *, is_unfinished: bool = False
    ) -> None:
        """Send RELEASE for what `choose` returns at its turn; nothing if the agent has ended."""
        deadline = self.emitter.deadline()
        async with self._turn:
            names = choose()
            if names and not self.has_ended:
                payload = {"resources": names, **({"unfinished": True} if is_unfinished else {})}
                await self._send(SignalType.RELEASE, payload, None, deadline)

    async def _send(
        self,
        kind: SignalType,
        payload: dict[str, Any],
        on_number: Callable[[int], None] | None = None,
        deadline: float | None = None,
    ) -> str:
        """Send a signal now. The caller holds the turn, so numbers grow in the order of sending."""
        if self.has_ended:
            raise errors.NotAllowedError(
                f"{self.name} has ended or not started: use it inside its `async with` block"
            )
        if self.over is not None:
            raise errors.EndedError(f"{kind.value} was not sent: {self.over}")
        payload = with_names(kind.value, payload)
        document = {
            "session": self._session,
            "type": kind.value,
            "emitter": self.name,
            "stream": self._stream,
            "seq": self.seq + 1,
            "incarnation": self.incarnation,
            "payload": payload,
        }
        if kind is SignalType.STARTED:
            document["instance"] = self.instance
        hops = handled_hops.get()
        if hops and kind not in _NO_ANSWERS:
            document["hops"] = hops
        entry = checked(encode(document))
        if kind is SignalType.INTENT and self.emitter.occupy is not None:
            await self.emitter.occupy(payload["writes"])
        # The number is spent if sending fails, unless it is certain that the signal is not there.
        self.seq += 1
        if on_number is not None:
            on_number(self.seq)
        try:
            sent = [*self._unsure, (self.seq, entry)]
            entries = [one for _, one in sent]
            ids = await self.emitter.send(entries, deadline=deadline, before=self._look)
        except errors.ServerError as error:
            self.seq -= error.never_sent
            if kind is SignalType.HEARTBEAT and not error.never_sent:
                self._unsure.append((self.seq, entry))
            raise
        self._unsure.clear()
        self._sent_at = asyncio.get_running_loop().time()
        if self._sent.is_empty:
            self._sent.trust(self.emitter.store.connection(self.emitter.partition))
        for (number, one), entry_id in zip(sent, ids, strict=True):
            self._sent.note(number, one, entry_id)
        self.on_sent(kind, payload)
        return ids[-1].decode()

    async def send_lost_again(self) -> None:
        """Look whether the server has everything; send again what it has lost. Raises ServerError.

        The next signal does so first, if this fails.
        """
        self._sent.doubt()
        async with self._turn:
            await self.emitter.retry(self._look)

    async def _look(self) -> int | None:
        """Have the server know all that it knew, or may have lost; return the connection for more.

        None: any, as nothing was sent yet. The caller holds the turn.
        """
        emitter, sent = self.emitter, self._sent
        if sent.is_empty:
            return None
        store, partition = emitter.store, emitter.partition
        connection = store.connection(partition)
        if sent.is_sure(connection):
            return connection
        try:
            lost = await sent.missing(store, partition)
            for one in lost:
                (one.id,) = await store.emit(
                    partition, [one.entry], emitter.ingress_max, connection=connection
                )
                one.times_again += 1
        except (errors.ServerError, errors.NotAllowedError) as error:
            if isinstance(error, errors.ServerError):
                error.never_sent = True  # the signal that comes after these
            raise
        sent.trust(connection)
        if lost:
            self.on_lost(sent.known, lost[0].number)
        return connection

    async def send_heartbeats(self, pause_s: float) -> None:
        """Send HEARTBEAT after every `pause_s` without another signal, until the agent ends."""
        loop, outage = asyncio.get_running_loop(), Outage(f"{self.name}: heartbeat", is_alarm=False)
        while not self.has_ended:
            silent_s = loop.time() - self._sent_at
            if silent_s < pause_s:
                await asyncio.sleep(pause_s - silent_s)
                continue
            try:
                async with self._turn:
                    # Another signal may have been sent while this one waited for its turn.
                    if loop.time() - self._sent_at >= pause_s:
                        await self._send(SignalType.HEARTBEAT, {})
                outage.worked()
            except errors.NotAllowedError:
                return
            except errors.ServerError as error:
                outage.report(error)
                await asyncio.sleep(pause_s)
