"""One signal that a command sends, and what becomes of it: accepted, refused, or a repeat.

An ingress entry leaves a log entry with the same fields, a dead letter with its id, both if the
rules refused it, or nothing if it was a repeat. All of that is written by the commit that notes its
id as committed. So once the partition's committed id has passed the entry, the streams have said
all that they will say. They are read from the places noted before sending: a log may be long.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

from fabric.backoff import retry
from fabric.client.emitter import Emitter
from fabric.client.session import BLOCK_MS, last_id, read_record
from fabric.core.event import Kind, Outcome
from fabric.core.record import AgentRecord
from fabric.core.signal import Signal
from fabric.errors import NotAllowedError, ServerError, WaitTimeoutError
from fabric.store.keys import ORCHESTRATORS, Partition, SessionKeys
from fabric.store.port import BEGINNING, ClientStore, Entry
from fabric.store.value import parse_id
from fabric.wire.entry import decode
from fabric.wire.record import RAW_PREFIX
from fabric.wire.stored import fields_of, tampered

#: Seconds to find out why nothing came of a signal, or to withdraw a wait: the script should not
#: wait for that as well.
EXPLAIN_S = 2.0

#: Entries read at a time.
PAGE = 256

#: Time between two looks at the committed id, ms: nothing else tells that a signal was a repeat.
LOOK_MS = 200

#: Log entries that are searched for the first signal of a repeat, the newest first. A signal is
#: repeated soon, when its sender does not know whether it has arrived.
REPEAT_ENTRIES_MAX = 5_000

#: Fields that say why an entry was refused, in the log and in a dead letter.
_WHY = (b"code", b"reason")

_SIGNAL_KINDS = (Kind.SIGNAL.value.encode(), Kind.REFUSED.value.encode())


class Refusal(NamedTuple):
    """Why a signal was refused: a code for programs, a reason for people."""

    code: str
    reason: str

    def __str__(self) -> str:
        return f"refused ({self.code}): {self.reason}"


class Confirmed(NamedTuple):
    """What became of a signal: its ingress id, its log id if it has one, the reason if refused.

    The log id of a repeat is that of the first signal.
    """

    outcome: Outcome
    id: str
    log: str | None
    refusal: Refusal | None = None

    @property
    def is_repeat(self) -> bool:
        """Whether the signal was dropped because it was sent before."""
        return self.outcome is Outcome.REPEATED


@dataclass(slots=True)
class SentSignal:
    """Sends one signal, then reads the stream in which its consequences appear."""

    store: ClientStore
    partition: Partition
    emitter: Emitter
    stream: str
    #: Why the signal was refused, as soon as that is known.
    refusal: Refusal | None = None
    #: The last reading has left nothing behind.
    is_at_end: bool = False
    id: bytes = b""
    _mark: bytes | None = None
    _after: dict[str, bytes] = field(default_factory=dict)

    async def send(self, entry: list[bytes], *, numbered: bool = True) -> None:
        """Send a checked entry; see Emitter.send for `numbered`. Raises what that does."""
        deadline = self.emitter.deadline()
        for key in (self.stream, self.partition.dead):
            reading = partial(last_id, self.store, key)
            self._after[key] = await self.emitter.retry(reading, deadline=deadline)
        (self.id,) = await self.emitter.send([entry], numbered=numbered, deadline=deadline)

    async def send_marked(self, entry: list[bytes], *, numbered: bool) -> list[bytes]:
        """Send an entry with a trace of its own unless it has one, and return it.

        The log repeats the trace: equal signals sent at the same time can be told apart.
        """
        if b"trace" not in entry[::2]:
            self._mark = b"00-%s-%s-00" % (_random_hex(16), _random_hex(8))
            entry = [*entry, b"trace", self._mark]
        await self.send(entry, numbered=numbered)
        return entry

    async def read(self, block_ms: int = BLOCK_MS) -> list[Entry]:
        """Return new entries of the stream, or none after a while; update `refusal`."""
        found = await retry(lambda: self.store.read_streams(self._after, PAGE, block_ms))
        self.is_at_end = all(len(entries) < PAGE for entries in found.values())
        self._after.update((key, entries[-1][0]) for key, entries in found.items() if entries)
        for _, flat in found.get(self.partition.dead, []):
            letter = fields_of(flat)
            if self._is_mine(letter):
                self.refusal = _refusal(letter)
        return found.get(self.stream, [])

    def _is_mine(self, letter: dict[bytes, bytes]) -> bool:
        if self._mark is not None and letter.get(RAW_PREFIX + b"trace") == self._mark:
            return True  # a worker may have moved the entry to another id
        # Results have ids of the same kind.
        source = letter.get(b"source", b"").decode("utf-8", "replace")
        return source == self.partition.signals and letter.get(b"id") == self.id

    async def is_handled(self) -> bool:
        """Whether an orchestrator has read past the signal. Raises ServerError."""
        lease = self.partition.lease(ORCHESTRATORS)
        (committed,) = await self.store.fields(lease, ["committed"])
        try:
            return bool(self.id) and parse_id(committed or BEGINNING) >= parse_id(self.id)
        except ValueError:
            raise tampered(lease, "hash", "committed") from None

    async def is_over(self) -> bool:
        """Whether an orchestrator has read past the signal, or the server has lost it."""
        # In this order: the commit that trims the entry also notes its id.
        stored = await self.store.entries(self.partition.signals, self.id, self.id, 1)
        return await self.is_handled() or not stored

    async def read_again_if_lost(self) -> None:
        """If the stream has begun anew, as after FLUSHALL, read it from its beginning."""
        if parse_id(await last_id(self.store, self.stream)) < parse_id(self._after[self.stream]):
            self._after[self.stream] = BEGINNING

    async def explain(self, handled: Callable[[], Awaitable[str]], unhandled: str) -> str:
        """Say why nothing came of the signal: `handled`, if an orchestrator has read it."""
        try:
            async with asyncio.timeout(EXPLAIN_S):
                if not self.id or not await self.is_over():
                    return unhandled
                return await handled() if await self.is_handled() else "the server has lost it"
        except (ServerError, TimeoutError):
            return "the server cannot be reached to find out why"


async def confirm(
    sent: SentSignal, keys: SessionKeys, entry: list[bytes], *, timeout_s: float
) -> Confirmed:
    """Send a checked entry, and return what became of it; `sent` reads the session's log.

    Raises what Emitter.send does; WaitTimeoutError if nobody has decided it in time; ServerError if
    the server has lost it; NotAllowedError for a number that was used for another signal.
    """
    signal = decode(entry)
    entry = await sent.send_marked(entry, numbered=bool(signal.seq))
    try:
        async with asyncio.timeout(timeout_s):
            return await _decision(sent, keys, entry, signal)
    except TimeoutError:

        async def handled() -> str:
            return "an orchestrator has handled it; the log says what became of it (fabric tail)"

        idle = "no orchestrator has handled it yet; is one running? (fabric status)"
        why = await sent.explain(handled, f"{idle} It is decided as soon as one runs")
        raise WaitTimeoutError(
            f"{_named(signal)} is stored under {sent.id.decode()}, and not decided after "
            f"{timeout_s:g} s: {why}"
        ) from None


async def _decision(
    sent: SentSignal, keys: SessionKeys, entry: list[bytes], signal: Signal
) -> Confirmed:
    entry_id = sent.id.decode()
    logged: dict[Outcome, str] = {}
    is_over = False
    while True:
        for log_id, flat in await sent.read(0 if is_over else LOOK_MS):
            fields = fields_of(flat)
            if fields.get(b"kind") in _SIGNAL_KINDS and fields_of(entry).items() <= fields.items():
                logged.setdefault(_outcome(fields), log_id.decode())
        if not sent.is_at_end:
            continue
        if sent.refusal is not None:
            return Confirmed(Outcome.REFUSED, entry_id, logged.get(Outcome.REFUSED), sent.refusal)
        if Outcome.ACCEPTED in logged:
            return Confirmed(Outcome.ACCEPTED, entry_id, logged[Outcome.ACCEPTED])
        if is_over:
            return await _repeat(sent, keys, signal)
        is_over = await retry(sent.is_over)
        if is_over:
            await retry(sent.read_again_if_lost)


async def _repeat(sent: SentSignal, keys: SessionKeys, signal: Signal) -> Confirmed:
    """Return what became of the first signal of a repeat: only that one is in the log."""
    store, sender = sent.store, signal.emitter
    agent = await retry(partial(read_record, store, keys.agents, sender, AgentRecord))
    if not signal.seq or agent is None or agent.seq < signal.seq:
        raise ServerError(
            f"{_named(signal)} is gone: it is neither among the signals that wait nor in the log; "
            f"the server has lost it (FLUSHALL, a failover, XDEL). Send it again"
        )
    first = await _find(store, keys.log, signal)
    if first is None or not _is_same(first[1], signal):
        used = "the log has no such signal" if first is None else f"{first[0]} has it"
        raise NotAllowedError(
            f"{_named(signal)} was dropped as a repeat: the last of {sender} is {agent.seq}, "
            f"and {signal.seq} was used before ({used}). Send it with a higher number"
        )
    log_id, fields = first
    entry_id = sent.id.decode()
    if _outcome(fields) is Outcome.ACCEPTED:
        return Confirmed(Outcome.REPEATED, entry_id, log_id)
    code, reason = _refusal(fields)
    return Confirmed(
        Outcome.REFUSED, entry_id, log_id, Refusal(code, f"{reason} (a repeat of {log_id})")
    )


def _refusal(fields: dict[bytes, bytes]) -> Refusal:
    """Return why a signal was refused, from its log entry or its dead letter."""
    return Refusal(*(fields.get(name, b"").decode("utf-8", "replace") for name in _WHY))


async def _find(
    store: ClientStore, log: str, signal: Signal
) -> tuple[str, dict[bytes, bytes]] | None:
    """Return the newest log entry with a signal's sender and number; None if it is not near."""
    sent = _sent_fields(signal)
    last, left = b"+", REPEAT_ENTRIES_MAX
    while left > 0:
        reading = partial(store.entries, log, b"-", last, min(PAGE, left), newest_first=True)
        page = await retry(reading)
        for log_id, flat in page:
            fields = fields_of(flat)
            incarnations = {fields.get(b"incarnation"), sent.get(b"incarnation")} - {None}
            if (
                fields.get(b"kind") in _SIGNAL_KINDS
                and all(fields.get(name) == sent[name] for name in (b"emitter", b"seq"))
                and len(incarnations) < 2
            ):
                return log_id.decode(), fields
        if not page:
            break
        last, left = b"(" + page[-1][0], left - len(page)
    return None


def _outcome(fields: dict[bytes, bytes]) -> Outcome:
    is_accepted = fields.get(b"kind") == Kind.SIGNAL.value.encode()
    return Outcome.ACCEPTED if is_accepted else Outcome.REFUSED


def _is_same(fields: dict[bytes, bytes], signal: Signal) -> bool:
    """Whether a log entry is of a signal that this one repeats."""
    sent = _sent_fields(signal)
    return all(fields.get(name, b"") == sent.get(name, b"") for name in (b"type", b"payload"))


def _sent_fields(signal: Signal) -> dict[bytes, bytes]:
    return dict(zip(signal.names, signal.values, strict=True))


def _named(signal: Signal) -> str:
    return f"{signal.type} of {signal.emitter}"


def _random_hex(size: int) -> bytes:
    return secrets.token_hex(size).encode()
