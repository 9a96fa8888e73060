"""Requests and replies over a connection that the driver has opened.

redis-py dials, does TLS, logs in and chooses the database. After that its streams and its parser
cost more than the work: two coroutines and a timeout context per reply. So an `Exchange` takes over
the transport, with hiredis' reader behind it and one watchdog for all its requests.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final, cast

import hiredis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as BrokenError
from redis.exceptions import InvalidResponse

#: What the reader returns while a reply is incomplete; never a reply.
_INCOMPLETE: Final = object()


class Exchange(asyncio.Protocol):
    """The transport of one open connection, for one request at a time."""

    def __init__(self, connection: AbstractConnection) -> None:
        """Take the transport over; `give_back` returns it to the driver."""
        writer = connection._writer  # the driver has no public name for it
        assert writer is not None, "the driver has opened the connection"
        self._loop = asyncio.get_running_loop()
        self._transport = cast(asyncio.Transport, writer.transport)
        #: The driver's own protocol, which has to hear of the connection's end.
        self._streams = cast(asyncio.Protocol, self._transport.get_protocol())
        self._reader = hiredis.Reader(
            protocolError=InvalidResponse,
            replyError=connection._parser.parse_error,  # makes its typed errors
            notEnoughData=_INCOMPLETE,
        )
        self._waiter: asyncio.Future[list[Any]] | None = None
        self._replies: list[Any] = []
        self._expected = 0
        self._limit_s = self._deadline = 0.0
        #: Bytes of the request that the system had not taken yet when we looked last.
        self._unsent = 0
        self._watchdog: asyncio.TimerHandle | None = None
        #: Whether requests can be sent. False at once when the server closes the connection.
        self.is_open = not self._transport.is_closing()
        self._transport.set_protocol(self)

    async def request(self, packed: bytes, limit_s: float, replies: int = 1) -> list[Any]:
        """Send packed commands and return their replies; an error is a reply like others.

        Raises TimeoutError when nothing has moved on the connection for `limit_s`, and the driver's
        ConnectionError when it breaks. Drop the connection then, as after a cancellation.
        """
        if not self.is_open:
            raise BrokenError("the server has closed the connection")
        self._waiter, self._replies, self._expected = self._loop.create_future(), [], replies
        self._limit_s = limit_s
        self._extend()
        if self._watchdog is None or self._watchdog.when() > self._deadline:
            self._watch()
        self._transport.write(packed)
        self._unsent = self._transport.get_write_buffer_size()
        try:
            return await self._waiter
        finally:
            self._waiter = None

    def give_back(self) -> None:
        """Let the driver use the connection again; no reply may be due."""
        self._unwatch()
        if self.is_open:
            self.is_open = False
            self._transport.set_protocol(self._streams)

    def data_received(self, data: bytes) -> None:
        """Take what the server sends; wake the caller with the last reply."""
        self._extend()
        self._reader.feed(data)
        try:
            while (reply := self._reader.gets(False)) is not _INCOMPLETE:
                self._replies.append(reply)
        except InvalidResponse as error:
            self._fail(error)
            return
        if self._waiter is None or len(self._replies) > self._expected:
            self._fail(InvalidResponse("a reply that nobody asked for"))
        elif len(self._replies) == self._expected and not self._waiter.done():
            self._waiter.set_result(self._replies)

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail the request under way, and tell the driver."""
        self._unwatch()
        self._fail(BrokenError(str(exc) if exc else "the server has closed the connection"))
        self._streams.connection_lost(exc)

    def _fail(self, error: Exception) -> None:
        self.is_open = False
        self._transport.close()
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(error)

    def _extend(self) -> None:
        """Begin the time limit anew: a large request or reply may take its time on a slow link."""
        self._deadline = self._loop.time() + self._limit_s

    def _watch(self) -> None:
        self._unwatch()
        self._watchdog = self._loop.call_at(self._deadline, self._look)

    def _unwatch(self) -> None:
        if self._watchdog is not None:
            self._watchdog.cancel()
            self._watchdog = None

    def _look(self) -> None:
        """Fail the request that is over its time. One timer serves many: it is seldom set again."""
        self._watchdog = None
        if self._waiter is None or self._waiter.done():
            return
        before, self._unsent = self._unsent, self._transport.get_write_buffer_size()
        if self._unsent < before:
            self._extend()
        if self._loop.time() < self._deadline:
            self._watch()
        else:
            self._waiter.set_exception(TimeoutError())
