"""`python -m benchmarks.hot_path`: the orchestrator's loop on a workload, in this process alone.

Everything that a worker does for a signal runs as it is: loop, decoder, core, store, channel and
exchange. Only the server is missing: a transport in memory answers with replies made beforehand.
The loop's clock stands still. So the work is the same in every run, to the instruction.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import json
import marshal
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FrameType, SimpleNamespace
from typing import Any, cast

from redis.asyncio.connection import DefaultParser

from benchmarks import workload
from benchmarks.workload import KEYS
from fabric.config.settings import Settings
from fabric.core.rules import Rules
from fabric.store import scripts
from fabric.store.connection import Caller, Channel
from fabric.store.keys import ORCHESTRATORS
from fabric.store.port import BEGINNING, Lease
from fabric.store.redis import RedisStore
from workers.lease import HeldLease
from workers.loop import Loop
from workers.orchestrator import Orchestrator

#: Workloads: those of `relay`; `mix` one signal at a time; and PROGRESS of as many sessions as a
#: batch has signals, of which a quarter begins its session.
NAMES = (*workload.NAMES, "alone", "spread")

#: Server time of the first signal; the others follow at a distance of one ms.
START_MS = 1_700_000_000_000

ROOT = Path(__file__).resolve().parent.parent


class _Transport(asyncio.Transport):
    """The server: answers each request with the next reply to its kind."""

    def __init__(self, server: _Server) -> None:
        super().__init__()
        self._server = server
        self._protocol: Any = None

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        return cast(asyncio.BaseProtocol, self._protocol)

    def is_closing(self) -> bool:
        return False

    def write(self, data: Any) -> None:
        reply = self._server.reply(data)
        asyncio.get_running_loop().call_soon(self._protocol.data_received, reply)

    def get_write_buffer_size(self) -> int:
        return 0


class _Server:
    """Replies made beforehand; stands in for the routing to a server, too."""

    generation = 0

    def __init__(self, batches: list[bytes], stop: asyncio.Event) -> None:
        self._batches = batches[::-1]
        self._stop = stop
        self._commit = scripts.digest("commit").encode()
        self._committed = _encoded(["committed", START_MS + 1_000 * len(batches)])
        #: Bytes that the worker has sent.
        self.sent = 0

    async def server_of(self, key: str) -> _Server:
        return self

    async def connect(self) -> Any:
        parser = DefaultParser(socket_read_size=65_536)
        return SimpleNamespace(
            _writer=SimpleNamespace(transport=_Transport(self)), _parser=parser, host=""
        )

    def reply(self, request: bytes) -> bytes:
        self.sent += len(request)
        head = request[:80]
        if self._commit in head:
            return self._committed
        if b"EVALSHA" in head:
            return _encoded(["free"])
        if b"XREAD" in head:
            if self._batches:
                return self._batches.pop()
            self._stop.set()
            return b"*-1\r\n"
        if b"HMGET" in head:
            fields = int(request[1 : request.index(b"\r")]) - 2
            return b"*%d\r\n" % fields + b"$-1\r\n" * fields
        return b"*0\r\n" * max(1, request.count(b"HGETALL"))


class _Store(RedisStore):
    """The store, on that server."""

    server: _Server

    def _channel(self, purpose: str = "calls", key: object = None, *, at: str) -> Caller:
        found = self._channels.get((purpose, key, None))
        if found is None:
            found = self._channels[purpose, key, None] = Channel(cast(Any, self.server), at)
        return found


class _StillLoop(asyncio.SelectorEventLoop):
    def time(self) -> float:
        return 1_000.0


def batches(name: str, signals: int) -> list[bytes]:
    """Return the replies to the reads of a workload: apart, so that making them is not measured."""
    each = 1 if name == "alone" else Settings().batch_signals_max
    sent = _spread(signals) if name == "spread" else _entries(name, signals)
    entries = enumerate(sent)
    pairs = [[f"{START_MS + at}-0", list(fields)] for at, fields in entries]
    parts = (pairs[at : at + each] for at in range(0, signals, each))
    return [_encoded([[KEYS.signals, part]]) for part in parts]


def _entries(name: str, signals: int) -> Iterator[tuple[bytes, ...]]:
    return workload.entries("mix" if name == "alone" else name, signals)


def _spread(signals: int) -> Iterator[tuple[bytes, ...]]:
    sessions = signals // 4
    for number in range(signals):
        seq, session = divmod(number, sessions)
        payload = workload.progress(number, 25 * seq)
        entry = workload.entry(0, "PROGRESS", 1 + seq, payload)
        yield (b"session", b"session-%d" % session, *entry[2:])


def _encoded(value: Any) -> bytes:
    """Return a reply in the server's protocol."""
    if isinstance(value, list):
        return b"*%d\r\n%b" % (len(value), b"".join(map(_encoded, value)))
    if isinstance(value, int):
        return b":%d\r\n" % value
    raw = value.encode() if isinstance(value, str) else value
    return b"$%d\r\n%b\r\n" % (len(raw), raw)


class Count:
    """What runs meanwhile: byte codes by function, calls of Python's and of C's functions."""

    def __init__(self) -> None:
        self.codes: Counter[CodeType] = Counter()
        self.calls: Counter[CodeType] = Counter()
        self.c_calls: Counter[str] = Counter()

    def __enter__(self) -> Count:
        sys.setprofile(self._profile)
        sys.settrace(self._trace)
        return self

    def __exit__(self, *error: object) -> None:
        sys.settrace(None)
        sys.setprofile(None)

    def _trace(self, frame: FrameType, event: str, arg: Any) -> Any:
        frame.f_trace_lines, frame.f_trace_opcodes = False, True
        code, codes = frame.f_code, self.codes
        self.calls[code] += 1

        def look(frame: FrameType, event: str, arg: Any) -> Any:
            if event == "opcode":
                codes[code] += 1
            return look

        return look

    def _profile(self, frame: FrameType, event: str, arg: Any) -> None:
        if event == "c_call":
            self.c_calls[getattr(arg, "__qualname__", "")] += 1

    def document(self, signals: int) -> dict[str, Any]:
        """Return the figures for each signal, in all and by function."""
        own = Path(__file__).name
        functions = {
            f"{_place(code)} {code.co_qualname}": (self.codes[code] / signals, calls / signals)
            for code, calls in self.calls.most_common()
            if Path(code.co_filename).name != own
        }
        return {
            "codes": sum(codes for codes, _ in functions.values()),
            "calls": sum(calls for _, calls in functions.values()),
            "c_calls": sum(self.c_calls.values()) / signals,
            "functions": functions,
            "c_functions": {name: n / signals for name, n in self.c_calls.most_common()},
        }


def _place(code: CodeType) -> str:
    path = Path(code.co_filename)
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else f"{path.stem} (Python)"


async def run(replies: list[bytes], count: Count | None = None) -> int:
    """Work through a workload; return the number of bytes that the worker has sent."""
    settings, stop = Settings(), asyncio.Event()
    store = _Store("redis://127.0.0.1:1")
    store.server = _Server(replies, stop)
    lease = Lease(0, ORCHESTRATORS, "one", "0" * 32, 1, 0, BEGINNING, START_MS * 2, START_MS)
    held = HeldLease(store, lease, settings.lease_ms)
    # The rules of benchmarks/fabric.toml: a workload is sent at once.
    handler = Orchestrator(store, KEYS, Rules(signals_per_second_max=0), settings)
    loop = Loop(held, handler, settings)
    with count or contextlib.nullcontext():
        await loop.run(stop)
    assert held.version == len(replies), f"{held.version} commits of {len(replies)} batches"
    return store.server.sent


def main() -> int:
    """Run once; with --count print what ran, as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hot_path", description=__doc__)
    parser.add_argument("replies", type=Path, help="file with the server's replies")
    parser.add_argument("--prepare", choices=NAMES, help="only write that file, for a workload")
    parser.add_argument("--signals", type=int, required=True)
    parser.add_argument("--count", action="store_true", help="count what runs, and print it")
    flags = parser.parse_args()
    if flags.prepare:
        flags.replies.write_bytes(marshal.dumps(batches(flags.prepare, flags.signals)))
        return 0
    replies = marshal.loads(flags.replies.read_bytes())  # noqa: S302 - our own file
    gc.disable()  # when it runs depends on what else was allocated
    count = Count() if flags.count else None
    with asyncio.Runner(loop_factory=_StillLoop) as runner:
        sent = runner.run(run(replies, count))
    if count is not None:
        print(json.dumps(count.document(flags.signals) | {"bytes": sent / flags.signals}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
