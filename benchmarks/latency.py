"""Open-loop latency: signals at a steady rate, timed from XADD to the read of their message."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from benchmarks import contender, faststream_relay, pacer, workload
from benchmarks.connection import Argument, BenchmarkError, Connection
from benchmarks.contender import Contender
from benchmarks.process import Worker, progress, working
from benchmarks.server import Server
from benchmarks.workload import KEYS

#: Share of the delays that is left out at the start, while the worker warms up.
WARM_UP_SHARE = 0.05

#: Longest wait for the first message of a worker that has just started, s.
READY_SECONDS_MAX = 30.0

#: Longest wait for a message after the last was sent, s.
LATE_SECONDS_MAX = 20.0

#: Longest blocking read, ms.
BLOCK_MS = 1_000

#: The sending agent, and the agent that gets the message.
_SPEAKER = 0


@dataclass(frozen=True)
class Delays:
    """Delays of one contender at one rate, ms."""

    label: str
    rate: int
    count: int
    p50_ms: float
    p99_ms: float
    max_ms: float


def delays(server: Server, rate: int, seconds: float) -> Iterator[Delays]:
    """Yield the delays of ours, the raw twin and FastStream at a rate. Raises BenchmarkError."""
    signal = _signal()
    for one, template, target in (
        (contender.ours(server.url, 0), *signal),
        (contender.twin(server.url, 0, "resolved", "sync", "xread"), *signal),
        _faststream(server),
    ):
        progress(f"latency at {rate:,}/s: {one.label}")
        connection = server.connect()
        connection.call("FLUSHDB")
        count = int(rate * seconds)
        with working(one.module, *one.flags) as worker:
            after = _ready(connection, worker, one.source, template, target)
            with _sending(server, one.source, template, rate, count) as sender:
                found = _receive(connection, (worker, sender), target, after, count, seconds)
        connection.close()
        kept = sorted(found[int(len(found) * WARM_UP_SHARE) :])
        yield Delays(
            one.label,
            rate,
            len(kept),
            kept[len(kept) // 2] / 1e6,
            kept[len(kept) * 99 // 100] / 1e6,
            kept[-1] / 1e6,
        )
    progress("")


def _signal() -> tuple[list[bytes], str]:
    """Return a signal to fill in, and the inbox that gets its message."""
    payload = workload.resolved(_SPEAKER, 0, pacer.STAMPED)
    fields = list(workload.entry(_SPEAKER, "DEPENDENCY_RESOLVED", 0, payload))
    fields[fields.index(b"seq") + 1] = pacer.NUMBER
    consumer = workload.agent(workload.consumer_of(_SPEAKER))
    inbox = KEYS.session(workload.session_of(_SPEAKER)).inbox(consumer)
    return fields, inbox


def _faststream(server: Server) -> tuple[Contender, list[bytes], str]:
    """Have FastStream write one message, which is then sent repeatedly with other time stamps."""
    connection = server.connect(contender.TEMPLATES)
    connection.call("FLUSHDB")
    document = next(faststream_relay.messages("resolved", 1))
    document["payload"]["output_location"] = pacer.STAMPED
    contender.produce(
        server, "--document", json.dumps(document), "--database", str(contender.TEMPLATES)
    )
    entry = connection.call("XRANGE", faststream_relay.SOURCE, "-", "+")[0]
    connection.close()
    return contender.faststream(server.url), list(entry[1]), faststream_relay.TARGET


def _ready(
    connection: Connection, worker: Worker, source: str, template: list[bytes], target: str
) -> bytes:
    """Send one signal and wait for its message; return the message's id."""
    fields = pacer.fill(template, 1, time.monotonic_ns())
    connection.call("XADD", source, "*", *fields)
    deadline = time.monotonic() + READY_SECONDS_MAX
    while time.monotonic() < deadline:
        worker.check()
        how: tuple[Argument, ...] = ("BLOCK", BLOCK_MS, "STREAMS", target, "0-0")
        reply = connection.call("XREAD", *how)
        if reply:
            entry_id: bytes = reply[0][1][-1][0]
            return entry_id
    raise BenchmarkError(f"no first message within {READY_SECONDS_MAX:g} s:\n{worker.words()}")


@contextmanager
def _sending(
    server: Server, source: str, template: list[bytes], rate: int, count: int
) -> Iterator[Worker]:
    hexed = [part.hex() for part in template]
    flags = ("--url", server.url, "--key", source, "--rate", str(rate), "--count", str(count))
    with working("benchmarks.pacer", *flags, *hexed) as sender:
        yield sender


def _receive(
    connection: Connection,
    workers: tuple[Worker, Worker],
    target: str,
    after: bytes,
    count: int,
    seconds: float,
) -> list[int]:
    """Read messages as they come; return each one's delay in ns."""
    found: list[int] = []
    deadline = time.monotonic() + seconds + LATE_SECONDS_MAX
    while len(found) < count:
        if time.monotonic() > deadline:
            words = "\n".join(worker.words() for worker in workers)
            raise BenchmarkError(f"{len(found)} of {count} messages arrived\n{words}")
        how: tuple[Argument, ...] = ("BLOCK", BLOCK_MS, "STREAMS", target, after)
        reply = connection.call("XREAD", *how)
        now = time.monotonic_ns()
        for entry_id, fields in reply[0][1] if reply else ():
            found.append(now - pacer.stamp(fields))
            after = entry_id
    return found
