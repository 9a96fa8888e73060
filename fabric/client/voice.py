"""What one agent says: numbered in the order of sending, within one incarnation."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from fabric.client.emitter import Emitter
from fabric.core.signal import SignalType
from fabric.errors import NotAllowedError, ServerError
from fabric.wire.entry import decode
from fabric.wire.result import check
from fabric.wire.spelling import encode

logger = logging.getLogger("fabric.agent")

#: Hops of the message that is being handled, here and in the tasks that the handling starts.
handled_hops: ContextVar[int] = ContextVar("handled_hops", default=0)

#: These never count as answers: refused for their hops, they would leave something for ever held,
#: or an agent for ever at work.
NO_ANSWERS = frozenset(
    {
        SignalType.STARTED,
        SignalType.HEARTBEAT,
        SignalType.RELEASE,
        SignalType.INTEGRATED,
        SignalType.COMPLETED,
        SignalType.FAILED,
    }
)


class Voice:
    """One agent's way to speak, once `begin` has given it an incarnation.

    `said` is told of every signal that has been sent.
    """

    def __init__(self, emitter: Emitter, session: str, name: str, stream: str) -> None:
        self.incarnation = 0
        self.ended = True
        self.said: Callable[[SignalType, dict[str, Any]], None] = lambda kind, payload: None
        self._emitter = emitter
        self._session = session
        self._name = name
        self._stream = stream
        self._seq = 0
        self._turn = asyncio.Lock()
        self._spoke_at = 0.0

    def begin(self, incarnation: int) -> None:
        """Speak as this incarnation, from number 1 on."""
        self.incarnation = incarnation
        self._seq, self.ended = 0, False

    async def say(
        self,
        kind: SignalType,
        payload: dict[str, Any],
        *,
        numbered: Callable[[int], None] | None = None,
    ) -> str:
        """Send a signal when it is its turn; return its ingress id.

        `numbered` is told the number before it is sent. Raises SignalError before anything is
        sent, NotAllowedError when the agent has ended.
        """
        async with self._turn:
            return await self._send(kind, payload, numbered)

    async def give_back(self, choose: Callable[[], list[str]]) -> None:
        """RELEASE what `choose` names when it is its turn; nothing when the agent has ended."""
        async with self._turn:
            names = choose()
            if names and not self.ended:
                await self._send(SignalType.RELEASE, {"resources": names})

    async def _send(
        self,
        kind: SignalType,
        payload: dict[str, Any],
        numbered: Callable[[int], None] | None = None,
    ) -> str:
        """Send a signal, now that it is its turn: numbers grow in the order of sending."""
        if self.ended:
            raise NotAllowedError(f"{self._name} has ended, or not begun: enter it (`async with`)")
        document = {
            "session": self._session,
            "type": kind.value,
            "emitter": self._name,
            "stream": self._stream,
            "seq": self._seq + 1,
            "incarnation": self.incarnation,
            "payload": payload,
        }
        hops = handled_hops.get()
        if hops and kind not in NO_ANSWERS:
            document["hops"] = hops
        entry = encode(document)
        check(decode(entry))
        # The number is spent even when sending fails: the signal may have arrived all the same.
        self._seq += 1
        if numbered is not None:
            numbered(self._seq)
        (entry_id,) = await self._emitter.send([entry])
        self._spoke_at = asyncio.get_running_loop().time()
        self.said(kind, payload)
        return entry_id.decode()

    async def keep_alive(self, pause_s: float) -> None:
        """Send HEARTBEAT whenever nothing else was said for a while, until the agent ends."""
        loop = asyncio.get_running_loop()
        while not self.ended:
            silent_s = loop.time() - self._spoke_at
            if silent_s < pause_s:
                await asyncio.sleep(pause_s - silent_s)
                continue
            try:
                async with self._turn:
                    # Something may have been said while this waited for its turn.
                    if loop.time() - self._spoke_at >= pause_s:
                        await self._send(SignalType.HEARTBEAT, {})
            except NotAllowedError:
                return
            except ServerError as error:
                logger.warning("%s: heartbeat: %s", self._name, error)
                await asyncio.sleep(pause_s)
