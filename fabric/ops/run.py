"""What people do to the runs of a session: close one, open the next."""

from __future__ import annotations

from typing import Any

from fabric.client.emitter import Emitter, prepare
from fabric.client.session import Session
from fabric.core.record import ENDED
from fabric.core.signal import SignalType
from fabric.errors import NotAllowedError
from fabric.ops.sent_signal import SentSignal, confirm
from fabric.store.keys import Partition
from fabric.store.port import ClientStore
from fabric.store.value import whole_number


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
        agents = await self._session.agents()
        at_work = sorted(name for name, agent in agents.items() if agent.status not in ENDED)
        payload = {"by": self._by} if reason is None else {"by": self._by, "reason": reason}
        await self._send(SignalType.RUN_CLOSED, payload)
        return await self._number(), at_work

    async def open(self) -> int:
        """Open the next run, or the first one of a new session; return its number."""
        await self._send(SignalType.RUN_OPENED, {"by": self._by})
        return await self._number()

    async def _number(self) -> int:
        (number,) = await self._store.fields(self._session.keys.meta, ["run"])
        return whole_number(number or b"1") or 1

    async def _send(self, kind: SignalType, payload: dict[str, Any]) -> None:
        document = {"type": kind.value, "payload": payload}
        entry = prepare(document, {"session": self._session.name, "emitter": self._by})
        sent = SentSignal(self._store, self._partition, self._emitter, self._session.keys.log)
        became = await confirm(sent, self._session.keys, entry, timeout_s=self._timeout_s)
        if became.refusal is not None:
            raise NotAllowedError(str(became.refusal))
