"""A proxy in front of a server that drops, delays, repeats or slows requests and replies on demand.

It parses just enough of the protocol to tell requests and replies apart: a rule can say "this
request goes through, its reply does not".
"""

import asyncio
import shutil
import threading
from collections import deque
from collections.abc import Coroutine
from typing import Any, TypeVar

import hiredis

from tests.support.proxy_fault import Fault, Match, Request, Rule
from tests.support.servers import RunningServer, short_directory

#: Rounds of the event loop after which the task of a new connection has started: a task that is
#: cancelled before that closes nothing.
BREATHS = 10

#: Bytes read from a socket at a time.
CHUNK_BYTES = 1 << 18

#: Pieces a second in which a slow link passes on what the server answers.
PIECES_A_SECOND = 50

T = TypeVar("T")


class Proxy:
    """Listens on a unix socket and on a local TCP port; runs in its own thread."""

    def __init__(self, server: RunningServer) -> None:
        self._server = server
        self._directory = short_directory()
        self._loop = asyncio.new_event_loop()
        self._rules: list[Rule] = []
        self._lines: set[_Line] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._listeners: list[asyncio.Server] = []
        self._is_refusing = False
        #: Bytes of replies a second on each connection; None: as fast as it goes.
        self.bytes_a_second: int | None = None
        #: Seconds by which each answer is late.
        self.delay_s = 0.0
        self.port = 0
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._run(self._listen())

    @property
    def url(self) -> str:
        return f"unix://{self._directory / 'redis.sock'}"

    def fault(self, fault: Fault, match: Match, *, times: int = 1, skip: int = 0) -> Rule:
        """Apply a fault to the next requests that match."""
        rule = Rule(fault, match, times, skip)
        self._loop.call_soon_threadsafe(self._rules.append, rule)
        return rule

    def lift(self, rule: Rule) -> None:
        """End a rule; what it has held back goes through now."""

        def end() -> None:
            rule.times = rule.struck
            if rule in self._rules:
                self._rules.remove(rule)
            rule.lifted.set()

        self._loop.call_soon_threadsafe(end)

    def cut_all(self) -> int:
        """Cut every connection; return how many."""
        return self._run(self._cut())

    def refuse(self) -> None:
        """Cut every connection, and each new one as soon as it is made."""
        self._is_refusing = True
        self._run(self._cut())

    def accept(self) -> None:
        """Accept connections again."""
        self._is_refusing = False

    def close(self) -> None:
        """Stop the proxy."""
        self._is_refusing = True
        self._run(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        shutil.rmtree(self._directory, ignore_errors=True)

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    async def _listen(self) -> None:
        path = self._directory / "redis.sock"
        tcp = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = tcp.sockets[0].getsockname()[1]
        self._listeners = [tcp, await asyncio.start_unix_server(self._serve, str(path))]

    async def _cut(self) -> int:
        return sum([line.cut() for line in self._lines])

    async def _end(self) -> None:
        # Stop listening before cancelling tasks: nothing would close a connection that is being
        # accepted while its listener is closed.
        for listener in self._listeners:
            for socket in listener.sockets:
                self._loop.remove_reader(socket.fileno())
        for _ in range(BREATHS):
            await asyncio.sleep(0)
        while tasks := asyncio.all_tasks() - {asyncio.current_task()}:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(line.closed() for line in self._lines), return_exceptions=True)
        for listener in self._listeners:
            listener.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far = await asyncio.open_unix_connection(str(self._server.socket))
        except (OSError, asyncio.CancelledError):
            writer.transport.abort()
            await asyncio.gather(writer.wait_closed(), return_exceptions=True)
            return
        line = _Line(self, (reader, writer), far)
        self._lines.add(line)
        if self._is_refusing:
            line.cut()
        for work in (line.requests(), line.replies()):
            task = asyncio.create_task(work)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)


_NOTHING = object()


class _Line:
    """One connection through the proxy."""

    def __init__(
        self,
        proxy: Proxy,
        near: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        far: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        self._proxy = proxy
        self._rules = proxy._rules
        self._bytes_a_second = proxy.bytes_a_second
        self._from_client, self._to_client = near
        self._from_server, self._to_server = far
        #: Requests that the server has not answered yet, each with its fault.
        self._unanswered: deque[Rule | None] = deque()
        #: A request that goes through twice, and the reply to the first.
        self._twice = b""
        self._first_reply = b""
        self._is_cut = False
        self._server_ended = asyncio.Event()

    def cut(self) -> bool:
        """Cut both sides; return whether there was anything to cut."""
        was_open, self._is_cut = not self._is_cut, True
        self._to_client.transport.abort()
        self._to_server.transport.abort()
        return was_open

    async def closed(self) -> None:
        """Wait until both sockets are closed."""
        self.cut()
        ending = (self._to_client.wait_closed(), self._to_server.wait_closed())
        await asyncio.gather(*ending, return_exceptions=True)

    async def requests(self) -> None:
        """Pass on what the client asks."""
        parser = hiredis.Reader(notEnoughData=_NOTHING)
        try:
            while chunk := await self._from_client.read(CHUNK_BYTES):
                parser.feed(chunk)
                while (request := parser.gets()) is not _NOTHING:
                    await self._pass(request)
        except (OSError, _CutError):
            pass
        self.cut()

    async def _pass(self, request: Request) -> None:
        rule = next((rule for rule in self._rules if rule.strikes(request)), None)
        arguments: Any = tuple(request)
        packed = hiredis.pack_command(arguments)
        if rule is None or rule.fault not in (Fault.CUT_REQUEST, Fault.LATE_REQUEST):
            self._unanswered.append(rule)
            self._to_server.write(packed)
            if rule is not None and rule.fault is Fault.REPEAT_REQUEST:
                self._twice = packed
            await self._to_server.drain()
            return
        if rule.fault is Fault.LATE_REQUEST:
            self._to_client.transport.abort()
            await rule.lifted.wait()
            self._unanswered.append(rule)
            self._to_server.write(packed)
            await self._server_ended.wait()
            return
        raise _CutError

    async def replies(self) -> None:
        """Pass on what the server answers."""
        parser = hiredis.Reader(notEnoughData=_NOTHING)
        kept = b""
        try:
            while chunk := await self._from_server.read(CHUNK_BYTES):
                parser.feed(chunk)
                kept += chunk
                if not any(self._unanswered):
                    await self._answer(kept)
                    kept = b""
                while (reply := parser.gets()) is not _NOTHING:
                    rule = self._unanswered.popleft()
                    if rule is not None:
                        await self._befall(rule, reply, kept)
                        kept = b""
                await self._to_client.drain()
        except (OSError, _CutError):
            pass
        self._server_ended.set()
        self.cut()

    async def _answer(self, said: bytes) -> None:
        await asyncio.sleep(self._proxy.delay_s)
        if self._bytes_a_second is None:
            self._to_client.write(said)
            return
        piece = max(1, self._bytes_a_second // PIECES_A_SECOND)
        for begin in range(0, len(said), piece):
            self._to_client.write(said[begin : begin + piece])
            await self._to_client.drain()
            await asyncio.sleep(1 / PIECES_A_SECOND)

    async def _befall(self, rule: Rule, reply: Any, kept: bytes) -> None:
        if isinstance(reply, hiredis.ReplyError) and str(reply).startswith("NOSCRIPT"):
            # The script did not run: the client sends its text now.
            rule.struck -= 1
            self._to_client.write(kept)
            return
        if self._twice:
            self._unanswered.append(rule)
            self._to_server.write(self._twice)
            self._twice, self._first_reply = b"", kept
            return
        rule.landed += 1
        if rule.fault is Fault.REPEAT_REQUEST:
            self._to_client.write(self._first_reply)
        if rule.fault in (Fault.CUT_REPLY, Fault.LATE_REQUEST):
            raise _CutError
        if rule.fault is Fault.DELAY_REPLY:
            await rule.lifted.wait()
            self._to_client.write(kept)


class _CutError(Exception):
    """A rule demands that the connection is cut."""
