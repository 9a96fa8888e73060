"""The agent daemon: one per user and host, it speaks for all coding agents that run there.

It holds one connection per server, and each agent's inbox, claims and heartbeats; hooks ask it over
a unix socket that only its owner may enter. A hook starts it when it is not there; it ends when
there has been no agent for `IDLE_S`. When a client's process ends, its agents end, however that
happened.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import struct
import time
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from fabric.agents import defer, dialect, request, wake
from fabric.agents.decision import Facts, decide
from fabric.agents.edits import Writers
from fabric.agents.event import WRITES, Action, Event, Moment
from fabric.agents.link import TRY_MS, Link
from fabric.agents.member import Limits, Member
from fabric.agents.process import Watch, client_of
from fabric.agents.request import Request, Target
from fabric.agents.spool import Spool
from fabric.errors import FabricError, ServerError

logger = logging.getLogger("fabric.agentd")

#: Seconds without an agent or a request after which it ends; the next hook starts another.
IDLE_S = 300.0

#: Seconds between two looks at what is kept, unused and over.
TICK_S = 1.0

#: Seconds that handling an event may take beyond the wait for a file.
HANDLE_S = 10.0

#: Variables of Codex by which its queue is found.
CODEX_VARIABLES = ("HOME", "CODEX_HOME")

Reply = tuple[int, bytes, bytes]

_NOTHING: Reply = (0, b"", b"")


class Daemon:
    """All agents of one user on one host."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._spool = Spool(folder / "spool")
        self._links: dict[tuple[str, str], Link] = {}
        self._members: dict[tuple[Link, str, str], Member] = {}
        self._clients: dict[int, Watch] = {}
        #: Agents whose end is being reported.
        self._endings: dict[tuple[Link, str, str], asyncio.Task[None]] = {}
        self._writers: Writers = {}
        self._limits: Limits = {}
        #: Conversations that know of the present outage.
        self._told: set[str] = set()
        #: Harness → its last event, for `fabric doctor`.
        self._seen: dict[str, dict[str, object]] = {}
        self._is_seen_new = False
        self._busy, self._active_at = 0, time.monotonic()
        self._tasks: set[asyncio.Task[None]] = set()

    # --- requests

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection."""
        self._busy += 1
        try:
            if peer_uid(writer.get_extra_info("socket")) in (None, os.geteuid()):
                await self._serve(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass  # the client has gone: its process tells
        finally:
            self._busy -= 1
            self._active_at = time.monotonic()
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = await reader.readline()
        if not line:  # a look whether the daemon listens
            return
        try:
            head, body = request.lengths(line)
            asked = request.parse(line + await reader.readexactly(head + body))
            op = asked.head.get("op")
            if op in ("wake", "turn"):
                work = self._wake(asked) if op == "wake" else self._turn(asked)
                code, out, err = await _while_asked(reader, work)
            else:
                code, out, err = self._who(asked) if op == "who" else await self._hook(asked)
        except FabricError as error:
            code, out, err = error.exit_code, b"", f"fabric: {error}\n".encode()
        except Exception:
            # A defect must not stop the work of all agents: the client goes on.
            logger.exception("internal error")
            code, out, err = 1, b"", b"fabric: internal error of the agent daemon; see its log\n"
        writer.write(b"%d %d %d\n" % (code, len(out), len(err)) + out + err)
        await writer.drain()

    def _who(self, asked: Request) -> Reply:
        """Say which agent a client's process is: a server of tools speaks for the same one."""
        client = client_of(asked.pid)
        found = [one for one in self._members.values() if one.pid == client and "/" not in one.name]
        names = [{"agent": one.name, "session": one.session} for one in found]
        return 0, json.dumps(names[-1]).encode() if names else b"", b""

    async def _wake(self, asked: Request) -> Reply:
        """Say when a client has to begin a turn, and what with; exit code 1 when it has ended."""
        line = await wake.line(asked, lambda: list(self._members.values()))
        return 0 if line else 1, line, b""

    async def _turn(self, asked: Request) -> Reply:
        """Say when the run that a client has ended can go on, and what its prompt was."""
        for member in list(self._members.values()):
            is_meant = (member.run_pid, member.name) == (asked.pid, asked.head.get("FABRIC_AGENT"))
            if member.deferred and is_meant:
                await member.turn()
                return 0, member.prompt.encode(), b""
        return 1, b"", b""

    async def _hook(self, asked: Request) -> Reply:
        event = dialect.read(asked.head.get("harness", ""), asked.body, asked.cwd)
        if event is None:
            return _NOTHING
        facts = await self._facts(asked, event)
        return dialect.render(event, decide(event, replace(facts, is_closed=asked.is_closed)))

    async def _facts(self, asked: Request, event: Event) -> Facts:
        conversation, link = f"{event.harness} {event.session_id}", None
        try:
            target = asked.target(event.cwd)
            self._note(event, target)
            link = self._link(target)
            if not await link.check():
                raise ServerError(link.outage)
            member = self._of(link, target, asked, event)
            self._watch(member.pid)
            if event.moment is Moment.SESSION_END:
                if member.deferred:  # `fabric run` starts it again at its turn
                    member.pid = member.run_pid
                    self._watch(member.pid)
                else:
                    self._go_on(self._end(member, "its session has ended"))
                return Facts()
            async with asyncio.timeout(asked.wait_s + HANDLE_S):
                facts = await member.facts(event, asked.wait_s)
        except (FabricError, TimeoutError) as error:
            words = str(error) or "the server does not answer."
            is_away = isinstance(error, ServerError | TimeoutError)
            if is_away and link is not None:
                link.down(words)
            if _matters(event) and (is_away or asked.is_expected(event.cwd)):
                self._spool.keep(asked)
            is_told = conversation in self._told
            if event.takes_context and event.is_lasting:
                self._told.add(conversation)
            name = asked.agent(event.harness, event.session_id, event.agent_id)
            return Facts(agent=name, session="-", outage=words, is_told=is_told)
        self._told.discard(conversation)
        if event.moment is Moment.SUBAGENT_END and member.is_between_turns:
            self._go_on(self._end(member, "the sub-agent has ended"))
        return facts

    def _note(self, event: Event, target: Target) -> None:
        """Remember that a client's hooks run, for `fabric doctor`."""
        self._seen[event.harness] = {
            "event": event.name,
            "ms": int(time.time() * 1000),
            "folder": event.cwd,
            "session": target.session,
        }
        self._is_seen_new = True

    # --- agents

    def _link(self, target: Target) -> Link:
        key = (target.url, target.settings.namespace)
        if key not in self._links:
            # Shared by agents of several processes: each names its own.
            shared = replace(target.settings, emit_limit_ms=TRY_MS, instance=None)
            self._links[key] = Link(shared, target.url)
        return self._links[key]

    def _of(self, link: Link, target: Target, asked: Request, event: Event) -> Member:
        """Return the agent of an event."""
        name = asked.agent(event.harness, event.session_id, event.agent_id)
        pid = asked.pid if asked.head.get("CLAUDE_PID") else client_of(asked.pid)
        key = (link, target.session, name)
        if key not in self._members:
            self._members[key] = Member(
                *(link.fabric, target.session, name, target.stream, event.harness),
                writers=self._writers,
                limits=self._limits,
            )
            self._members[key].previous = self._endings.get(key)
        member = self._members[key]
        member.pid = pid
        run_pid = asked.head.get("FABRIC_RUN", "")
        member.run_pid = int(run_pid) if run_pid.isdecimal() else 0
        is_whole = event.harness == "claude" and not event.agent_id
        member.can_defer = is_whole and bool(member.run_pid and asked.head.get(defer.VARIABLE))
        member.conversation = event.session_id
        member.variables = {one: asked.head[one] for one in CODEX_VARIABLES if one in asked.head}
        member.instance = target.settings.instance
        return member

    def _watch(self, pid: int) -> None:
        """End the agents of a client with its process; at once if that has ended already."""
        if pid not in self._clients:
            self._clients[pid] = Watch(pid, lambda: self._client_ended(pid))

    def _client_ended(self, pid: int) -> None:
        self._clients.pop(pid).close()
        for member in [one for one in self._members.values() if one.pid == pid]:
            self._go_on(self._end(member, f"its process {pid} has ended"))

    async def _end(self, member: Member, reason: str) -> None:
        """End an agent and its sub-agents."""
        family = [
            one
            for one in self._members.values()
            if one is member
            or (one.session == member.session and one.name.startswith(f"{member.name}/"))
        ]
        task = asyncio.current_task()
        assert task is not None
        for key in [key for key, one in self._members.items() if one in family]:
            # What comes from now on is for another agent of that name, which begins after this end.
            del self._members[key]
            self._endings[key] = task
        for one in reversed(family):
            try:
                await one.end(reason)
            except (FabricError, OSError) as error:
                logger.warning("%s: its end was not reported: %s", one.name, error)
        self._endings = {key: one for key, one in self._endings.items() if one is not task}

    def _go_on(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something after the reply: the client may be waiting for its own end."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # --- what happens by itself

    async def run(self) -> None:
        """Look after everything until there has been nothing to do for long."""
        while self._busy or self._members or time.monotonic() - self._active_at < IDLE_S:
            await asyncio.sleep(TICK_S)
            for member in list(self._members.values()):
                with suppress(FabricError):  # the next look is in a second
                    await member.tick()
                if member.harness == "codex" and "/" not in member.name:
                    self._go_on(wake.queue(member))
            await self._replay()
            if self._is_seen_new:
                self._is_seen_new = False
                fresh = self._folder / f".seen.{os.getpid()}"
                fresh.write_text(json.dumps(self._seen))
                fresh.replace(self._folder / "seen.json")

    async def _replay(self) -> None:
        """Handle what was kept, where that is possible again."""
        clients: set[int] = set()
        for path, asked in self._spool.kept() if len(self._spool) else ():
            event = dialect.read(asked.head.get("harness", ""), asked.body, asked.cwd)
            if event is None or not asked.is_expected(event.cwd):
                self._spool.drop(path)
                continue
            try:
                target = asked.target(event.cwd)
                link = self._link(target)
                if not await link.check():
                    continue
                member = self._of(link, target, asked, event)
                clients.add(member.pid)
                await member.late(event)
                if event.moment is Moment.SESSION_END:
                    self._go_on(self._end(member, "its session has ended"))
            except (FabricError, OSError, TimeoutError) as error:
                logger.warning("an event is kept: %s", error)
                continue
            self._spool.drop(path)
        # Only now: a process that has ended takes its agents with it.
        for pid in clients:
            self._watch(pid)

    async def close(self) -> None:
        """Release what all agents hold, and close the connections: their clients go on."""
        for member in list(self._members.values()):
            await member.release()
            await member.leave()
        for link in self._links.values():
            await link.close()


async def _while_asked(reader: asyncio.StreamReader, work: Coroutine[Any, Any, Reply]) -> Reply:
    """Do what may take days, for as long as the other end is there."""
    doing, gone = asyncio.create_task(work), asyncio.create_task(reader.read(1))
    try:
        await asyncio.wait({doing, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not doing.done():
            raise ConnectionResetError("the other end has gone")
        return doing.result()
    finally:
        for one in (doing, gone):
            one.cancel()


def _matters(event: Event) -> bool:
    """Whether an event is worth keeping: it has an effect also when it is handled late."""
    if event.moment is Moment.AFTER_TOOL:
        return event.action in WRITES or event.action is Action.TODO
    return event.moment in (Moment.SESSION_START, Moment.TURN_FAILED, Moment.SESSION_END)


def peer_uid(connection: socket.socket) -> int | None:
    """Return the user at the other end of a unix socket; None where the system does not tell.

    Then the folder alone keeps others out.
    """
    option = getattr(socket, "SO_PEERCRED", None)
    if option is None:
        return None
    size = struct.calcsize("3i")
    found = connection.getsockopt(socket.SOL_SOCKET, option, size)
    return int(struct.unpack("3i", found)[1])
