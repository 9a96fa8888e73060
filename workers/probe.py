"""`/healthz` and `/readyz` of a worker, for what runs it: Docker, Kubernetes, a load balancer.

Live: the event loop answers, and the replica tries to reach the server. A worker that waits for a
server is live: starting it anew would not help. Ready: the server has answered within a lease, so
the worker serves, or would take over.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final

from workers.replica import Replica

logger = logging.getLogger("fabric.probe")

#: Longest request that is read, bytes, and the time for it, s: a probe sends some hundred at once.
REQUEST_BYTES_MAX: Final = 8_192
REQUEST_S: Final = 5.0

_REASONS: Final = {200: "OK", 404: "Not Found", 503: "Service Unavailable"}


@asynccontextmanager
async def probed(replica: Replica, port: int | None) -> AsyncIterator[None]:
    """Answer probes on a port of all addresses for as long as the block runs; None: do not."""
    if port is None:
        yield
        return

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(
            OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError
        ):
            async with asyncio.timeout(REQUEST_S):
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(response(replica, head))
                await writer.drain()
        writer.close()

    try:
        server = await asyncio.start_server(answer, port=port, limit=REQUEST_BYTES_MAX)
    except OSError as error:  # a worker that nobody can probe works all the same
        logger.error("%s: no answers on port %d: %s", replica.name, port, error.strerror)
        yield
        return
    logger.info("%s: /healthz and /readyz on port %d", replica.name, port)
    try:
        yield
    finally:
        server.close()


def response(replica: Replica, head: bytes) -> bytes:
    """Return the answer to a request's head."""
    words = head.split(b" ", 2)
    is_get = len(words) == 3 and words[0] in (b"GET", b"HEAD")
    path = words[1].partition(b"?")[0] if is_get else b""
    good = {b"/healthz": replica.is_live, b"/readyz": replica.is_ready}.get(path)
    code = 404 if good is None else 200 if good else 503
    said = {"live": replica.is_live, "ready": replica.is_ready, "name": replica.name}
    body = json.dumps(said | {"partitions": replica.partitions, "rests": replica.rests}).encode()
    lines = (
        f"HTTP/1.1 {code} {_REASONS[code]}", "Content-Type: application/json",
        f"Content-Length: {len(body)}", "Connection: close", "", "",
    )  # fmt: skip
    return "\r\n".join(lines).encode() + (b"" if words[0] == b"HEAD" else body)
