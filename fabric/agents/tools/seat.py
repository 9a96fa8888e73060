"""The agent that the tools of one client speak for.

If hooks or `fabric run` speak for it already, it is theirs: it is neither started nor ended here,
and what it holds is not claimed again. Else it is started with the first tool that needs it, kept
alive, and ended with the client. Its signals carry no numbers, so several may speak for it.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from fabric.agents import hook
from fabric.client.emitter import Emitter, prepare
from fabric.client.fabric import Fabric
from fabric.client.message import Message, is_grant, read, strings
from fabric.client.sent_signal import LOOK_MS, Confirmed, SentSignal, confirm
from fabric.client.session import Session
from fabric.client.trial import report_here
from fabric.client.wait import Resolved
from fabric.core.directive import DirectiveType
from fabric.core.record import ENDED, ClaimState
from fabric.devserver.path import files_here
from fabric.errors import FabricError, NotAllowedError, ServerError
from fabric.ops.script import Inbox, ScriptAgent

#: Seconds until a signal must be decided.
CONFIRM_S = 10.0
#: Seconds for the agent daemon to say which agent a process belongs to.
WHO_S = 1.0


class Claimed(NamedTuple):
    """What came of asking for files."""

    granted: bool
    paths: list[str]
    token: int | None = None
    holder: str = ""
    position: int = 0
    reason: str = ""


def agent_of(pid: int) -> str:
    """Return the agent that hooks speak for in a process; "" if there is none."""
    environ = dict(os.environb)
    head = [b"op", b"who", b"ppid", b"%d" % pid, b"cwd", bytes(Path.cwd())]
    try:
        _, out, _ = hook.ask(hook.socket_path(environ), hook.request(head, b""), WHO_S)
        return str(json.loads(out)["agent"]) if out else ""
    except (OSError, ValueError, KeyError):
        return ""


class Seat:
    """One agent's place in a session. `find` names it, "" as long as nobody knows it."""

    def __init__(
        self, fabric: Fabric, session: str, stream: str, *, find: Callable[[], str], name: str
    ) -> None:
        """`name` is used if `find` knows none."""
        self.session: Session = fabric.session(session)
        self._fabric, self._stream, self._find, self._name = fabric, stream, find, name
        number, _ = fabric.keys(session)
        self._partition = fabric.store.namespace.partition(number)
        chosen = fabric.settings
        self._emitter = Emitter(
            fabric.store, number, ingress_max=chosen.ingress_max, limit_ms=chosen.emit_limit_ms
        )
        #: The name that was started here.
        self._own = ""
        self._beating: asyncio.Task[None] | None = None
        self._taking = asyncio.Lock()

    async def name(self) -> str:
        """Return the agent's name; start it if nobody else has.

        Raises NotAllowedError if the rules refuse it, WaitTimeoutError without an orchestrator.
        """
        async with self._taking:
            known = await asyncio.to_thread(self._find)
            if self._own and not known:
                return self._own
            name = known or self._name
            agent = (await self.session.agents()).get(name)
            if agent is None or agent.status in ENDED:
                beat = {"heartbeat_ms": self._fabric.settings.heartbeat_ms}
                await self.send({"type": "STARTED", "payload": beat}, name)
                self._own = name
                if self._beating is None:
                    self._beating = asyncio.create_task(self._beat())
            return name

    async def send(self, document: dict[str, Any], name: str | None = None) -> Confirmed:
        """Send a signal, and return what became of it. Raises NotAllowedError if it is refused."""
        entry = self._entry(document, name or await self.name())
        found = await confirm(
            self._sent(self.session.keys.log), self.session.keys, entry, timeout_s=CONFIRM_S
        )
        if found.refusal is not None:
            raise NotAllowedError(str(found.refusal))
        return found

    def _entry(self, document: dict[str, Any], name: str) -> list[bytes]:
        sender = {"session": self.session.name, "emitter": name, "stream": self._stream or None}
        return prepare(document, sender, self._fabric.settings.workspace)

    def _sent(self, stream: str) -> SentSignal:
        return SentSignal(self._fabric.store, self._partition, self._emitter, stream)

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self._fabric.settings.heartbeat_ms / 1000)
            with suppress(FabricError):
                await self._emitter.send([self._entry({"type": "HEARTBEAT"}, self._own)])

    async def claim(self, paths: Sequence[str], wait_s: float) -> Claimed:
        """Ask for files, and wait for them; after `wait_s` they are still waited for.

        What the agent holds already is not asked for again.
        """
        name = await self.name()
        wanted = files_here().names(paths)
        claims = [one for one in (await self.session.claims()).values() if one.agent == name]
        held = [one for one in claims if one.state is ClaimState.HELD]
        if set(wanted) <= {path for one in held for path in one.writes}:
            tokens = [one.token for one in held if set(one.writes) & set(wanted)]
            return Claimed(granted=True, paths=wanted, token=max(tokens))
        sent = self._sent(self.session.keys.inbox(name))
        await sent.send(self._entry({"type": "INTENT", "payload": {"writes": wanted}}, name))
        place, deadline = Claimed(granted=False, paths=wanted), time.monotonic() + wait_s
        while True:
            left_ms = max(0, int((deadline - time.monotonic()) * 1000))
            # The first answer comes in some ms: it says at least who holds what.
            has_answer = bool(place.holder or place.reason)
            entries = await sent.read(min(LOOK_MS, left_ms) if has_answer else LOOK_MS)
            if sent.refusal is not None:
                return place._replace(reason=sent.refusal.reason)
            for message in map(read, entries):
                if not set(strings(message.payload.get("resources"))) & set(wanted):
                    continue
                if is_grant(message):
                    return place._replace(granted=True, token=message.payload["token"])
                place = _place(place, message)
                if place.reason:
                    return place
            if time.monotonic() >= deadline and (place.holder or time.monotonic() > deadline + 5):
                return place

    async def release(self, paths: Sequence[str]) -> list[str]:
        """Release files, and withdraw waits for them; return their names."""
        names = files_here().names(paths)
        await self.send({"type": "RELEASE", "payload": {"resources": names}})
        await report_here(self.session, self._emitter, self._fabric.settings.workspace)
        return names

    async def wait(self, dependency: str, wait_s: float) -> Resolved:
        """Wait for a dependency, a decision, or one's turn for a file. Raises as ScriptAgent."""
        name = await self.name()
        sent = self._sent(self.session.keys.inbox(name))
        script = ScriptAgent(
            *(self.session, sent, name, self._stream or None),
            self._fabric.settings.heartbeat_ms,
            lambda text: None,
        )
        return await script.wait_for(dependency, timeout_s=wait_s)

    async def messages(self, limit: int) -> list[Message]:
        """Return unread messages, and note them as read."""
        inbox = Inbox(self._fabric.store, self.session.keys, await self.name())
        found: list[Message] = []
        async for page, place in inbox.pages(await inbox.place(), limit=limit):
            found += page
            await inbox.remember(place)
        return found

    async def close(self) -> None:
        """End the agent, if it was started here: its files are released."""
        if self._beating is not None:
            self._beating.cancel()
            await asyncio.gather(self._beating, return_exceptions=True)
        if self._own:
            with suppress(ServerError):
                await self._emitter.send([self._entry({"type": "COMPLETED"}, self._own)])


def _place(place: Claimed, message: Message) -> Claimed:
    said = message.payload
    if message.type == DirectiveType.WAIT:
        return place._replace(
            holder=str(said.get("holder") or ""), position=int(said.get("position") or 0)
        )
    if message.type == DirectiveType.CANCEL:
        return place._replace(reason=str(said.get("reason") or "refused"))
    return place
