"""Runs a command as an agent: what `fabric run` does for one of them.

The agent is STARTED before the command begins and has ended when all of its processes have: as
COMPLETED if the exit code is 0, else as FAILED. Meanwhile heartbeats speak for it, and signals in
its output are sent in their order (`output.py`). `warden.py` sees to it that nothing of the command
outlives `fabric run`. A CANCEL that is about the agent as a whole stops the command.

STARTED names the run as the living process that has the name (its instance), and the command gets
the same one (`FABRIC_INSTANCE`): so of two runs that begin under one name at the same instant, one
is refused before its command begins. The other signals carry neither an instance nor numbers nor an
incarnation: they count for the agent's present one. The command may speak for the same agent
itself, with `fabric emit` or through the hooks of a coding agent, and both then say what is so.
Sent twice, each means the same as once.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import IO, NamedTuple

from fabric.agents import defer
from fabric.agents.ask import ask
from fabric.agents.child import (
    KEPT_BYTES_MAX,
    Job,
    keep,
    pass_on,
    show,
    signal_name,
    started,
    stop,
)
from fabric.agents.output import VENDORS, WORDS_CHARS_MAX, Document, Output
from fabric.backoff import Outage
from fabric.client.emitter import Emitter, prepare
from fabric.client.fabric import Fabric
from fabric.client.message import Message
from fabric.client.sent_signal import SentSignal, confirm
from fabric.client.session import last_id
from fabric.client.trial import report_here
from fabric.core.directive import DirectiveType
from fabric.core.identity import NAME_TAKEN
from fabric.core.record import ENDED
from fabric.core.signal import SignalType
from fabric.devserver import instance
from fabric.devserver.path import working_in
from fabric.errors import HeldError, NameTakenError, NotAllowedError, ServerError, SignalError
from fabric.ops.ndjson import READ_BYTES, Lines
from fabric.ops.script import Inbox, Place

logger = logging.getLogger("fabric.agent")

#: Seconds for the decision on STARTED: before it, the command does not begin.
START_S = 10.0
#: Signals that wait to be sent while the server is away; then the oldest PROGRESS is dropped.
WAITING_MAX = 10_000
#: Bytes of standard error of which the end of a failed run shows the last words.
ERROR_BYTES = 8_192
#: Lines of them.
ERROR_LINES = 5
#: Seconds between two looks whether an agent that was declared dead has started again.
RESTART_S = 1.0


class Ended(NamedTuple):
    """How a run has ended."""

    name: str
    #: The exit code; 128 + n if signal n ended the command.
    code: int
    kind: SignalType
    #: Why it failed; "" if it completed.
    error: str
    seconds: float
    #: The file that keeps its output; None if there is none.
    kept: Path | None
    #: Whether it failed because its model's quota was used up.
    is_limited: bool


class AgentRun:
    """One run of a job; `run` returns when all processes of the command have ended.

    `echo` gets the command's output; None for none. `tell` gets what a person should know.
    `seen` is called with each signal that is sent.
    """

    def __init__(
        self,
        fabric: Fabric,
        session: str,
        job: Job,
        *,
        tell: Callable[[str], None],
        echo: bool = True,
        seen: Callable[[Document], None] = lambda document: None,
    ) -> None:
        self.job = job
        self._fabric = fabric
        self._session = fabric.session(session)
        number, _ = fabric.keys(session)
        self._partition = fabric.store.namespace.partition(number)
        chosen = fabric.settings
        self._emitter = Emitter(
            fabric.store, number, ingress_max=chosen.ingress_max, limit_ms=chosen.emit_limit_ms
        )
        self._tell, self._echoes, self._seen = tell, echo, seen
        self._output = Output(job.name, session, job.harness)
        self._lines = Lines()
        #: Which living process has the name, in STARTED and for the command.
        self._instance = instance.begin()
        self._started: Document = {}
        self._place: Place = []
        self._waiting: deque[list[bytes]] = deque()
        self._more = asyncio.Event()
        self._sent_at = 0.0
        self._errors = bytearray()
        self._told_to_stop = ""
        self._is_ending = False

    async def run(self) -> Ended:
        """Run it. Raises what `_start` does before the command begins; being cancelled stops it."""
        began_at = time.monotonic()
        try:
            await self._start()
            return await self._run(began_at)
        finally:
            instance.end(self._instance)

    async def _run(self, began_at: float) -> Ended:
        kept = None if self.job.has_terminal else keep(self._session.name, self.job.name)
        sending = asyncio.create_task(self._send_waiting())
        try:
            with (kept or Path(os.devnull)).open("wb") as file:
                code = await self._command(self.job, file)
                while not code and (conversation := self._output.take_deferred()):
                    code = await self._command(await self._resumption(conversation), file)
        except asyncio.CancelledError:
            self._told_to_stop = self._told_to_stop or "fabric run was stopped"
            await asyncio.shield(self._end(128 + signal.SIGTERM, began_at, kept, sending))
            raise
        return await self._end(code, began_at, kept, sending)

    async def _start(self) -> None:
        """Send STARTED, and return when it is accepted.

        Raises HeldError if an agent of that name is at work; NotAllowedError if the rules refuse
        it, WaitTimeoutError if no orchestrator runs, ServerError.
        """
        job, store, keys = self.job, self._fabric.store, self._session.keys
        known = (await self._session.agents()).get(job.name)
        gone = known.instance if known is not None and instance.is_gone(known.instance) else ""
        if known is not None and known.status not in ENDED and not gone:
            raise HeldError(
                f"{job.name} is at work in {self._session.name} already ({known.status.value}); "
                "give this one another name (--agent), or wait until the other has ended"
            )
        quotas = [VENDORS[job.harness]] if job.harness else []
        payload = {
            "task": job.task,
            "priority": job.priority,
            "quotas": quotas,
            "takes_over": gone,
            "heartbeat_ms": self._fabric.settings.heartbeat_ms,
        }
        given = {name: one for name, one in payload.items() if one}
        self._started = {"type": "STARTED", "instance": self._instance, "payload": given}
        started = self._entry(self._started)
        streams = (keys.inbox(job.name), keys.broadcast)
        self._place = [await last_id(store, stream) for stream in streams]
        sent = SentSignal(store, self._partition, self._emitter, keys.log)
        found = await confirm(sent, keys, started, timeout_s=START_S)
        if found.refusal is not None:
            why = f"{job.name} may not start: {found.refusal}"
            is_taken = found.refusal.code == NAME_TAKEN
            raise NameTakenError(why) if is_taken else NotAllowedError(why)
        self._sent_at = time.monotonic()

    def _entry(self, document: Document) -> list[bytes]:
        """Return the entry of a signal. Raises SignalError."""
        job = self.job
        sender = {"session": self._session.name, "emitter": job.name, "stream": job.stream or None}
        # Files are named, and the copy of them is found, from where the command works.
        with working_in(str(job.folder or Path.cwd())):
            return prepare(document, sender, self._fabric.settings.workspace)

    async def _resumption(self, conversation: str) -> Job:
        """Wait for what the command has put off a write for; return the job that does it."""
        self._tell(f"{self.job.name}: it waits for its turn; `fabric why` says for what")
        try:
            prompt = (await ask("turn", self.job.name)).decode()
        except OSError:  # then the hook waits for the turn
            prompt = ""
        return replace(self.job, command=defer.resumption(self.job.command, conversation, prompt))

    async def _command(self, job: Job, file: IO[bytes]) -> int:
        """Run a command to its end; return its exit code."""
        async with started(job, self._environment()) as process:
            streams = [
                self._read(process.stdout, file, sys.stdout, self._parse),
                self._read(process.stderr, file, sys.stderr, self._note_error),
            ]
            reading = asyncio.gather(*streams)
            obeying = asyncio.gather(self._obey(process), self._feed(process))
            try:
                if not job.has_terminal:
                    await asyncio.shield(reading)  # what it says while it ends counts too
                return await process.wait()
            except asyncio.CancelledError:
                await asyncio.shield(stop(process))
                raise
            finally:
                obeying.cancel()
                await asyncio.gather(obeying, return_exceptions=True)
                with suppress(TimeoutError, asyncio.CancelledError):
                    await asyncio.wait_for(reading, 1)

    def _environment(self) -> dict[str, str]:
        """Return the command's environment: who it is, for `fabric` in it and for its hooks."""
        settings, job = self._fabric.settings, self.job
        named = {
            "FABRIC_SESSION": self._session.name,
            "FABRIC_AGENT": job.name,
            "FABRIC_STREAM": job.stream,
            "FABRIC_NAMESPACE": settings.namespace,
            "FABRIC_INSTANCE": self._instance,
            # The hooks of a coding agent then neither start nor end it.
            "FABRIC_RUN": str(os.getpid()),
        }
        if defer.can_resume(job.command) and not job.has_terminal:
            named[defer.VARIABLE] = "1"
        given = os.environ.get("FABRIC_REDIS_URL")
        if settings.redis_url is not None and (given or job.folder is not None):
            named["FABRIC_REDIS_URL"] = settings.redis_url.value
        return {**os.environ, **named, **job.environment}

    async def _read(
        self,
        stream: asyncio.StreamReader | None,
        file: IO[bytes],
        echo: IO[str],
        take: Callable[[bytes], None],
    ) -> None:
        """Pass on what the command prints, keep it, and read it."""
        echoes = self._echoes
        while stream is not None and (chunk := await stream.read(READ_BYTES)):
            if file.tell() < KEPT_BYTES_MAX:
                file.write(chunk[: KEPT_BYTES_MAX - file.tell()])
                file.flush()
            take(chunk)
            if echoes:
                # In a thread: a reader that is slow must not hold the heartbeats.
                echoes = await asyncio.to_thread(show, echo, chunk)
        take(b"")

    def _parse(self, chunk: bytes) -> None:
        lines = self._lines.cut(chunk) if chunk else self._lines.finish()
        for _, line in lines:
            for document in self._output.read(line) if line is not None else ():
                self._queue(document)

    def _note_error(self, chunk: bytes) -> None:
        self._errors += chunk
        del self._errors[:-ERROR_BYTES]

    def _queue(self, document: Document) -> None:
        """Have a signal sent after those before it; say why if it is none that may be sent."""
        kind = document.get("type") or document.get("signal") or document.get("signal_type")
        if str(kind).startswith(SignalType.ESCALATE.value):
            # Sent twice after a lost reply, it must stay one question.
            within = document.get("payload") if isinstance(document.get("payload"), dict) else None
            (document if within is None else within).setdefault("id", f"run-{os.urandom(6).hex()}")
        try:
            self._waiting.append(self._entry(document))
        except SignalError as error:
            self._tell(f"{self.job.name}: a signal in its output is not sent: {error}")
            return
        if len(self._waiting) > WAITING_MAX:
            self._waiting.popleft()
        self._seen(document)
        self._more.set()

    async def _send_waiting(self) -> None:
        """Send what waits, in order, through outages; a heartbeat when nothing does."""
        pause_s = self._fabric.settings.heartbeat_ms / 1000
        beat, outage = self._entry({"type": "HEARTBEAT"}), Outage(self.job.name, is_alarm=False)
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(max(0, self._sent_at + pause_s - time.monotonic())):
                    await self._more.wait()
            self._more.clear()
            while batch := list(self._waiting)[:100] or self._due(beat, pause_s):
                try:
                    await self._emitter.send(batch)
                except ServerError as error:
                    await outage.failed(error)
                    continue
                outage.worked()
                self._sent_at = time.monotonic()
                for _ in range(min(len(batch), len(self._waiting))):
                    self._waiting.popleft()
            if self._is_ending:
                return

    def _due(self, beat: list[bytes], pause_s: float) -> list[list[bytes]]:
        return [beat] if time.monotonic() - self._sent_at >= pause_s else []

    async def _obey(self, process: asyncio.subprocess.Process) -> None:
        """Stop the command when a CANCEL tells the agent as a whole to stop."""
        store, keys = self._fabric.store, self._session.keys
        while True:
            async for messages, reached in Inbox(store, keys, self.job.name).pages(
                list(self._place), follow=True
            ):
                self._place = reached
                stops = [one for one in messages if one.type == DirectiveType.CANCEL]
                for message in stops:
                    if message.is_about_agent and await self._is_stopped(message, process):
                        return
            # It ends when the agent has: it was declared dead.
            await asyncio.sleep(RESTART_S)

    async def _feed(self, process: asyncio.subprocess.Process) -> None:
        """Pass our input on to a client that reads it all the time; wake it with what has come."""
        if process.stdin is None:
            return
        pass_on(process)
        while not process.stdin.is_closing():
            try:
                line = (await ask("wake", self.job.name)).decode()
            except OSError:
                line = ""
            if not line:  # no hook has spoken for it yet
                await asyncio.sleep(RESTART_S)
            elif not process.stdin.is_closing():
                said = {"role": "user", "content": [{"type": "text", "text": line.strip()}]}
                process.stdin.write(json.dumps({"type": "user", "message": said}).encode() + b"\n")

    async def _is_stopped(self, message: Message, process: asyncio.subprocess.Process) -> bool:
        """Stop the command as a CANCEL says; return False when the agent starts again instead."""
        reason = str(message.payload.get("reason") or "no reason given")
        if message.payload.get("code") == "DEAD":
            # This machine slept, perhaps. The work goes on, as a new incarnation.
            self._tell(f"{self.job.name}: {reason}; it starts again")
            self._queue(self._started)
            return False
        self._told_to_stop = f"told to stop: {reason}"
        self._tell(f"{self.job.name}: {self._told_to_stop}")
        await stop(process)
        return True

    async def _end(
        self, code: int, began_at: float, kept: Path | None, sending: asyncio.Task[None]
    ) -> Ended:
        """Send COMPLETED or FAILED after all other signals, and return how it has ended."""
        output, seconds = self._output, round(time.monotonic() - began_at, 3)
        error = self._why_failed(code)
        kind = SignalType.FAILED if error else SignalType.COMPLETED
        ending = output.ending[1] if output.ending and output.ending[0] is kind else None
        if ending is None and error:
            ending = {"type": "FAILED", "error": error, "retryable": output.is_limited}
        elif ending is None:
            facts = {"exit_code": code, "seconds": seconds, "host": socket.gethostname()}
            more = {"output": str(kept) if kept else None, "result": output.result}
            known = {name: one for name, one in more.items() if one is not None}
            result = {"runs": {self.job.name: {**facts, **known}}}
            if isinstance(output.result, str):
                result["runs"][self.job.name]["result"] = output.result[:WORDS_CHARS_MAX]
            ending = {"type": "COMPLETED", "result": result}
        if output.foreign:
            self._tell(f"{self.job.name}: {output.foreign} signals of other agents in its output")
        self._queue(ending)
        if not self._waiting:  # its own ending is none that may be sent
            self._queue({"type": kind.value} | ({"error": error} if error else {}))
        await self._flush(sending)
        with working_in(str(self.job.folder or Path.cwd())):
            await report_here(self._session, self._emitter, self._fabric.settings.workspace)
        return Ended(self.job.name, code, kind, error, seconds, kept, output.is_limited)

    def _why_failed(self, code: int) -> str:
        """Return why the run failed; "" if it completed."""
        output = self._output
        if self._told_to_stop:
            return self._told_to_stop
        if not code and output.ending and output.ending[0] is SignalType.FAILED:
            return str(output.ending[1].get("error") or "the agent says that it has failed")
        if not code:
            return (output.error or "")[:WORDS_CHARS_MAX]
        said = self._errors.decode("utf-8", "replace").strip().splitlines()[-ERROR_LINES:]
        words = output.error or " / ".join(line.strip() for line in said)
        by_signal = f"ended by {signal_name(code - 128)}" if code > 128 else f"exit code {code}"
        return f"{by_signal}: {words}"[:WORDS_CHARS_MAX] if words else by_signal

    async def _flush(self, sending: asyncio.Task[None]) -> None:
        """Have the last signals sent, for as long as a signal is tried."""
        limit_s = self._fabric.settings.emit_limit_ms / 1000
        self._is_ending = True
        self._more.set()
        with suppress(TimeoutError):
            await asyncio.wait_for(sending, limit_s)
        if self._waiting:
            self._tell(
                f"{self.job.name}: {len(self._waiting)} signals could not be sent in {limit_s:g} s,"
                " its end among them; it counts as dead when its silence has lasted too long"
            )
