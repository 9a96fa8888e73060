"""`fabric workers`: the worker processes of a namespace, on all hosts."""

from __future__ import annotations

import click

from fabric.cli.connect import Target, connected, json_option, on_target
from fabric.cli.output import note, print_either
from fabric.ops.workers import WorkerSummary
from fabric.ops.workers import workers as all_workers
from fabric.view.text import span, table

_HEADER = ("WORKER", "KIND", "ROLE", "HOST", "BUILD", "RULES", "UP", "CLOCK", "ROUND TRIP")

#: Digits of a digest of rules that are shown.
_DIGITS = 12

#: Partitions that a line names; the rest are counted.
_NAMED_MAX = 8


@click.command()
@on_target()
@json_option
async def workers(target: Target, as_json: bool) -> None:
    """List the workers on all hosts: who serves what, by which rules, how far from the server.

    \b
      fabric workers

    CLOCK is the worker's clock against the server's. A worker rests while its way to the server is
    much longer than a peer's. Exit code 1: no orchestrator or no synthesizer is alive.
    """
    async with connected(target) as connection:
        now_ms, found = await all_workers(connection.store, connection.partitions)
    rows = [_row(one, now_ms) for one in found]
    lines = table(_HEADER, rows) if rows else []
    print_either(as_json, {"now_ms": now_ms, "workers": [one._asdict() for one in found]}, lines)
    for one in found:
        if one.role == "resting":
            note(f"{one.name} rests: {one.why}")
    alive = [one for one in found if one.role != "gone"]
    for what, values in (("builds", {one.build for one in alive}), ("rules", _rules(alive))):
        if len(values) > 1:
            note(f"the workers have different {what}: {', '.join(sorted(values))}")
    missing = [kind for kind in ("orchestrator", "synthesizer") if not _alive(kind, alive)]
    for kind in missing:
        note(f"no {kind} is alive: start one with `fabric up` or `fabric {kind}`")
    if missing:
        raise click.exceptions.Exit(1)


def _row(one: WorkerSummary, now_ms: int) -> list[str]:
    role = one.role
    if one.serves:
        named = ", ".join(map(str, one.serves[:_NAMED_MAX]))
        more = len(one.serves) - _NAMED_MAX
        role = f"serves {named}" + (f" and {more} more" if more > 0 else "")
    elif role == "gone":
        role = f"gone for {span(now_ms - one.heard_ms)}"
    return [
        one.name, one.group.removesuffix("s"), role, f"{one.host} ({one.pid})", one.build,
        one.rules[:_DIGITS], span(min(now_ms, one.heard_ms) - one.began_ms),
        f"{one.clock_ms / 1000:+.1f} s", f"{one.trip_ms:.1f} ms",
    ]  # fmt: skip


def _rules(found: list[WorkerSummary]) -> set[str]:
    return {one.rules[:_DIGITS] for one in found}


def _alive(kind: str, found: list[WorkerSummary]) -> bool:
    return any(one.group == f"{kind}s" for one in found)
