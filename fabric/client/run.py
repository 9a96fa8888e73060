"""What people do to the runs of a session: close one, open the next, delete all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

from fabric.backoff import retry
from fabric.client.emitter import Emitter, prepare
from fabric.client.sent_signal import LOOK_MS, SentSignal, confirm
from fabric.client.session import Session
from fabric.core.directive import DirectiveType
from fabric.core.rule_table import SESSION_MAX
from fabric.core.run import CLOSED
from fabric.core.signal import SignalType
from fabric.errors import NotAllowedError, WaitTimeoutError
from fabric.store.keys import ORCHESTRATORS, SYNTHESIZERS, Partition
from fabric.store.port import ClientStore
from fabric.store.state import PURGE_FAULT
from fabric.store.value import whole_number
from fabric.wire.stored import fields_of

#: Seconds after which a person hears what a deletion waits for.
NOTE_S = 3.0

#: Seconds that deleting a session may take for each of its events, besides.
PURGE_S_PER_EVENT = 0.001


class Runs:
    """Closes and opens the runs of one session, as the person `by`.

    Each method returns when the orchestrator has decided. Raises NotAllowedError with the reason if
    it refuses, and WaitTimeoutError after `timeout_s` if none has decided.
    """

    def __init__(
        self,
        session: Session,
        store: ClientStore,
        partition: Partition,
        emitter: Emitter,
        *,
        by: str,
        timeout_s: float,
    ) -> None:
        self._session = session
        self._store = store
        self._partition = partition
        self._emitter = emitter
        self._by = by
        self._timeout_s = timeout_s

    async def close(self, reason: str | None = None) -> tuple[int, list[str]]:
        """Close the run; return its number, and the agents that were still at work.

        Raises NotFoundError if there is no such session.
        """
        await self._session.must_exist()
        payload = {"by": self._by} if reason is None else {"by": self._by, "reason": reason}
        decided = await self._send(SignalType.RUN_CLOSED, payload)
        return await self._number(), await self._told(decided)

    async def open(self, expect: Sequence[str] = (), deadline_ms: int | None = None) -> int:
        """Open the next run, or the first one of a new session; return its number.

        It expects these agents, until the deadline at most. If a run is open, they are added to
        its roster; without any, NotAllowedError is raised then.
        """
        more: dict[str, Any] = {"by": self._by}
        if expect and deadline_ms is not None:
            more["deadline_ms"] = deadline_ms
        if expect and await self._is_open():
            await self._send(SignalType.AGENTS_EXPECTED, {"agents": list(expect), **more})
        else:
            named = {"expect": list(expect)} if expect else {}
            await self._send(SignalType.RUN_OPENED, {**named, **more})
        return await self._number()

    async def _is_open(self) -> bool:
        number, closed = await self._store.fields(self._session.keys.meta, ["log", "closed_ms"])
        return number is not None and closed is None

    async def purge(self, note: Callable[[str], None] = lambda _: None) -> None:
        """Delete everything of the session; return when it is gone.

        Raises NotFoundError if there is no such session, and NotAllowedError while its run is open.
        `note` is told once what it waits for, if that takes longer than NOTE_S.
        """
        wait = await self.ask_purge()
        await wait(note)

    async def ask_purge(self) -> Callable[[Callable[[str], None]], Awaitable[None]]:
        """Ask for what `purge` does; return what waits for it. Raises as `purge`.

        Sessions that are asked for before one waits are deleted together, in one walk.
        """
        keys, begun = self._session.keys, await self._begun()
        if begun is None:
            await self._session.must_exist()
        (events,) = await self._store.fields(keys.meta, ["log"])
        limit_s = self._timeout_s + (whole_number(events) or 0) * PURGE_S_PER_EVENT
        document = {"type": SignalType.RUN_PURGED.value, "payload": {"by": self._by}}
        entry = prepare(document, {"session": self._session.name, "emitter": self._by})
        # The log says nothing of it; and each stream that is followed takes a connection.
        sent = SentSignal(self._store, self._partition, self._emitter, self._partition.dead)
        await sent.send(entry)
        return partial(self._purged, sent, begun, limit_s)

    async def _purged(
        self, sent: SentSignal, begun: bytes | None, limit_s: float, note: Callable[[str], None]
    ) -> None:
        try:
            async with asyncio.timeout(limit_s):
                noting = asyncio.get_running_loop().time() + NOTE_S
                # The log is deleted with the rest: it is done when `meta` is gone.
                while not await retry(partial(self._is_gone, begun)):
                    await sent.read(LOOK_MS)
                    # Refused as CLOSED: somebody has begun to delete it, and that goes on.
                    if sent.refusal is not None and sent.refusal.code != CLOSED:
                        raise NotAllowedError(str(sent.refusal))
                    if noting <= asyncio.get_running_loop().time():
                        noting = float("inf")
                        name = self._session.name
                        note(f"{name} is not gone yet: {await retry(self._waits_for)}")
        except TimeoutError:
            name, waits = self._session.name, await self._waits_for()
            raise WaitTimeoutError(
                f"{name} is to be deleted, and not gone after {limit_s:g} s: {waits}"
            ) from None

    async def _waits_for(self) -> str:
        """Say what a purge waits for."""
        (fault,) = await self._store.fields(self._session.keys.meta, [PURGE_FAULT])
        if fault:
            return fault.decode("utf-8", "replace")
        groups = (ORCHESTRATORS, SYNTHESIZERS)
        missing = [one for one in groups if not await self._is_served(one)]
        if missing:
            names = " and no ".join(one.removesuffix("s") for one in missing)
            return f"no {names} serves its partition, and it takes both (fabric up, fabric status)"
        return "the workers are at it; what they had to do before comes first"

    async def _is_served(self, group: str) -> bool:
        lease = self._partition.lease(group)
        now_ms = await self._store.now_ms(lease)
        owner, expires = await self._store.fields(lease, ["owner", "expires"])
        return bool(owner) and (whole_number(expires) or 0) > now_ms

    async def _begun(self) -> bytes | None:
        """Return when the session was opened, which tells it from the next one of its name."""
        (opened,) = await self._store.fields(self._session.keys.meta, ["opened_ms"])
        return opened

    async def _is_gone(self, begun: bytes | None) -> bool:
        opened, purging = await self._store.fields(
            self._session.keys.meta, ["opened_ms", "purging"]
        )
        if begun is not None and opened is not None:
            return opened != begun
        return not purging and not await self._session.exists()

    async def _number(self) -> int:
        (number,) = await self._store.fields(self._session.keys.meta, ["run"])
        return whole_number(number or b"1") or 1

    async def _told(self, decided: bytes) -> list[str]:
        """Name the agents that the closing of a run has told to stop, from the log."""
        last = decided.partition(b"-")[0]
        after = b"(" + decided
        log = await self._store.entries(self._session.keys.log, after, last, SESSION_MAX)
        messages = [fields_of(flat) for _, flat in log]
        cancel = DirectiveType.CANCEL.value.encode()
        return sorted({one[b"to"].decode() for one in messages if one.get(b"type") == cancel})

    async def _send(self, kind: SignalType, payload: dict[str, Any]) -> bytes:
        """Send a signal; return the log id of the decision."""
        document = {"type": kind.value, "payload": payload}
        entry = prepare(document, {"session": self._session.name, "emitter": self._by})
        sent = SentSignal(self._store, self._partition, self._emitter, self._session.keys.log)
        became = await confirm(sent, self._session.keys, entry, timeout_s=self._timeout_s)
        if became.refusal is not None:
            raise NotAllowedError(str(became.refusal))
        return (became.log or "0-0").encode()
