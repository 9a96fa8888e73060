"""`relay`: our orchestrator, the raw twin and FastStream, by turns, on a fresh server."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import contender, faststream_relay, twin
from benchmarks.connection import BenchmarkError
from benchmarks.contender import Contender
from benchmarks.latency import Delays, delays
from benchmarks.measurement import Sample, measure
from benchmarks.process import progress, wait_for_quiet
from benchmarks.server import Server, running
from benchmarks.workload import SESSIONS
from benchmarks.written_keys import WrittenKey, compare

#: Share of one processor that other programs may use before a measurement counts as disturbed.
FOREIGN_SHARE_MAX = 0.15

#: Longest wait for a quiet machine before an attempt, s.
QUIET_SECONDS_MAX = 10.0

#: Attempts at a measurement on a machine that is not quiet.
ATTEMPTS_MAX = 3

#: Rates of the latency measurement, signals/s.
LATENCY_RATES = (200, 2_000)


@dataclass(frozen=True)
class Plan:
    """The options. `aof` is `no` or a value of appendfsync; `patient` waits for a quiet machine."""

    binary: Path
    workloads: tuple[str, ...]
    signals: int
    rounds: int
    unix: bool
    aof: str
    latency_seconds: float
    verbose: bool
    patient: bool
    #: No measurement begins after so many seconds, once each contender has had a turn.
    seconds_max: float


@dataclass
class Findings:
    """The results: workload → contender → one sample a round; and the delays."""

    plan: Plan
    version: str
    samples: dict[str, dict[str, list[Sample]]] = field(default_factory=dict)
    delays: list[Delays] = field(default_factory=list)


def run(plan: Plan) -> Findings:
    """Measure everything. Raises BenchmarkError, also when FastStream is not installed."""
    faststream_relay.installed()
    deadline = time.monotonic() + plan.seconds_max
    with running(plan.binary, unix=plan.unix, aof=plan.aof) as server:
        connection = server.connect()
        information = connection.call("INFO", "server").decode()
        connection.close()
        version = information.partition("redis_version:")[2].split()[0]
        findings = Findings(plan, version)
        left = len(plan.workloads) + bool(plan.latency_seconds)
        for name in plan.workloads:
            share_s = (deadline - time.monotonic()) / left
            findings.samples[name] = _measure_workload(plan, server, name, share_s)
            left -= 1
        rates = LATENCY_RATES if plan.latency_seconds else ()
        for number in range(plan.rounds):
            if number and time.monotonic() > deadline:
                break
            for rate in rates:
                findings.delays += delays(server, rate, plan.latency_seconds)
    return findings


def _measure_workload(
    plan: Plan, server: Server, name: str, seconds_max: float
) -> dict[str, list[Sample]]:
    progress(f"{name}: writing {plan.signals:,} signals")
    start_ms = contender.first_ms()
    contender.prefill(server, name, plan.signals, start_ms)
    count = ("--produce", str(plan.signals))
    contender.produce(server, *count, "--database", str(contender.TEMPLATES), "--workload", name)
    samples: dict[str, list[Sample]] = {}
    begun = time.monotonic()
    for number in range(1, plan.rounds + 1):
        taken_s = time.monotonic() - begun
        if number > 1 and taken_s * number / (number - 1) > seconds_max:
            break
        reference: dict[str, WrittenKey] = {}
        for one in _contenders(server, name, start_ms):
            progress(f"{name}, round {number} of {plan.rounds}: {one.label}")
            sample, held = _measure_quietly(plan, server, one)
            samples.setdefault(one.label, []).append(sample)
            if not one.fabric:
                continue
            if not reference:
                reference = held
                _check(name, plan.signals, held)
            else:
                compare(one.label, reference, held)
        if plan.verbose and number == 1:
            _show(name, reference)
    progress("")
    return samples


def _measure_quietly(
    plan: Plan, server: Server, one: Contender
) -> tuple[Sample, dict[str, WrittenKey]]:
    """Wait for a quiet machine; measure again if other programs disturbed it anyway.

    Returns the least disturbed attempt: the choice depends on the others' processor time only.
    """
    attempts = []
    for _ in range(ATTEMPTS_MAX if plan.patient else 1):
        if plan.patient:
            wait_for_quiet(FOREIGN_SHARE_MAX, QUIET_SECONDS_MAX)
        attempts.append(measure(server, one, plan.signals))
        if (attempts[-1][0].foreign or 0) <= FOREIGN_SHARE_MAX:
            break
    return min(attempts, key=lambda attempt: attempt[0].foreign or 0)


def _contenders(server: Server, name: str, start_ms: int) -> Iterator[Contender]:
    """Yield all contenders in the order of a round; ours is the reference."""
    yield contender.ours(server.url, start_ms)
    for reader in twin.READERS:
        # The one that copies is shown as a limit: on blocking sockets it is the quicker one.
        for shape in twin.SHAPES if reader != "reference" else ("sync",):
            yield contender.twin(server.url, start_ms, name, shape, reader)
    yield contender.faststream(server.url)


def _check(name: str, signals: int, held: dict[str, WrittenKey]) -> None:
    """Check that our orchestrator has written everything that the workload demands."""
    logs = [one for key, one in held.items() if key.endswith(":log")]
    logged, rules = sum(one.length for one in logs), sum(one.first == "RULES" for one in logs)
    told = sum(one.length for key, one in held.items() if ":inbox:" in key)
    is_complete = logged == signals + told + rules and rules == SESSIONS
    if not is_complete or (name == "resolved" and told != signals):
        what = f"{logged} log entries ({rules} of them rules) and {told} inbox entries"
        raise BenchmarkError(f"ours: {signals} signals, {what}")


def _show(name: str, held: dict[str, WrittenKey]) -> None:
    progress("")
    sys.stderr.write(f"{name}: keys that ours and every twin ended with, and their lengths\n")
    for key, one in held.items():
        sys.stderr.write(f"  {key:48} {one.kind:7} {one.length:>9,}\n")
