"""Open-loop latency of the synthesis: from XADD of a result to the read of its revision."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks import pacer, results_workload
from benchmarks.connection import BenchmarkError, Connection
from benchmarks.process import progress, working
from benchmarks.results_workload import KEYS_OF_SESSION
from benchmarks.server import Server
from benchmarks.workload import KEYS

#: Rates of the measurement, results/s: a quiet fleet, and a busy one.
RATES = (20, 200)

#: Share of the delays that is left out at the start, while the workers warm up.
WARM_UP_SHARE = 0.05

#: Longest blocking read, ms; longest wait for a revision after the last result was sent, s.
BLOCK_MS, LATE_SECONDS_MAX = 1_000, 20.0

#: Finds the times in a patch. A patch of several results has several.
_STAMPS = re.compile(rb'"stamp:([0-9]{19})"')


@dataclass(frozen=True)
class Delay:
    """Delays at one rate, ms."""

    rate: int
    count: int
    p50_ms: float
    p99_ms: float


def delay(server: Server, seconds: float) -> Iterator[Delay]:
    """Yield the delays at each rate. Raises BenchmarkError when a result is missing."""
    connection = server.connect()
    for rate in RATES:
        progress(f"latency at {rate}/s")
        connection.call("FLUSHDB")
        count = int(rate * seconds)
        with (
            working("workers", "orchestrator", "--redis-url", server.url),
            working("workers", "synthesizer", "--redis-url", server.url),
        ):
            first = pacer.fill(_template(), 1, time.monotonic_ns())
            connection.call("XADD", KEYS.signals, "*", *first)
            _receive(connection, b"0-0", 1, LATE_SECONDS_MAX)
            flags = ["--url", server.url, "--key", KEYS.signals]
            flags += ["--rate", str(rate), "--count", str(count)]
            with working("benchmarks.pacer", *flags, *(part.hex() for part in _template())):
                found = _receive(connection, b"1-0", count, seconds + LATE_SECONDS_MAX)
        kept = sorted(found[int(len(found) * WARM_UP_SHARE) :])
        middle, late = kept[len(kept) // 2], kept[len(kept) * 99 // 100]
        yield Delay(rate, len(kept), middle / 1e6, late / 1e6)
    connection.close()


def _template() -> list[bytes]:
    """Return an entry to fill in: one finding with its own key."""
    finding = b'{"partial":{"findings":[{"key":"%s","value":"%s","confidence":0.8}]}}'
    return [
        b"session", results_workload.SESSION.encode(),
        b"type", b"PARTIAL_RESULT",
        b"emitter", results_workload.agent(0).encode(),
        b"seq", pacer.NUMBER,
        b"incarnation", b"1",
        b"payload", finding % (pacer.NUMBER, pacer.STAMPED.encode()),
    ]  # fmt: skip


def _receive(connection: Connection, after: bytes, count: int, limit_s: float) -> list[int]:
    """Read revisions as they come; return the delay of each result, ns."""
    found: list[int] = []
    deadline = time.monotonic() + limit_s
    while len(found) < count:
        if time.monotonic() > deadline:
            raise BenchmarkError(f"{len(found)} of {count} results were revealed")
        reply = connection.call(
            "XREAD", "BLOCK", BLOCK_MS, "STREAMS", KEYS_OF_SESSION.revisions, after
        )
        now = time.monotonic_ns()
        for entry_id, fields in reply[0][1] if reply else ():
            after = entry_id
            patch = fields[fields.index(b"patch") + 1]
            found += [now - int(stamp) for stamp in _STAMPS.findall(patch)]
    return found
