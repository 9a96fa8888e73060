"""The report of a run: printed at the end, and written as JSON."""

from statistics import median
from typing import Any

from tests.chaos.stage import Outcome

#: Width of the first column.
NAME_CHARS = 30


def summary(
    outcome: Outcome, signals: int, anomalies: dict[str, list[str]], losses: dict[str, list[str]]
) -> dict[str, Any]:
    """Return all figures of a run for JSON. `losses` are findings that its deployment allows."""
    tally = outcome.tally
    return {
        "seconds": round(outcome.seconds),
        "signals": signals,
        "faults": dict(sorted(tally.faults.items())),
        "kills": tally.kills,
        "freezes": tally.freezes,
        "connections_cut": tally.cut,
        "server_restarts": tally.restarts,
        "failovers": tally.failovers,
        "agents_in_outages": outcome.survivors,
        "anomalies": {name: len(found) for name, found in anomalies.items()},
        "losses": {name: len(found) for name, found in losses.items()},
        "lost_by_failover": {
            kind: {"times": len(counts), "median": median(counts), "worst": max(counts)}
            for kind, counts in outcome.lost.items()
        },
        "troubles": outcome.problems,
        "recovery_ms": {
            point: {
                "times": len(found),
                "answer_median": round(median(one.answer_ms for one in found)),
                "answer_worst": round(max(one.answer_ms for one in found)),
                "backlog_median": round(median(one.backlog_ms for one in found)),
                "backlog_worst": round(max(one.backlog_ms for one in found)),
            }
            for point, found in sorted(outcome.recoveries.items())
        },
    }


def table(figures: dict[str, Any]) -> str:
    """Return the figures as a table for people."""
    rows = [f"{'faults':{NAME_CHARS}} times"]
    rows += [f"  {name:{NAME_CHARS - 2}} {times:5}" for name, times in figures["faults"].items()]
    rows.append("")
    counts = "kills", "freezes", "connections_cut", "server_restarts", "failovers"
    for name in (*counts, "agents_in_outages", "signals"):
        rows.append(f"{name.replace('_', ' '):{NAME_CHARS}} {figures[name]:,}")
    head = "times  answer: median  worst  backlog: median  worst"
    rows += ["", f"{'recovery, ms':{NAME_CHARS}} {head}"]
    for point, one in figures["recovery_ms"].items():
        rows.append(
            f"  {point:{NAME_CHARS - 2}} {one['times']:5}  {one['answer_median']:14} "
            f"{one['answer_worst']:6}  {one['backlog_median']:15} {one['backlog_worst']:6}"
        )
    rows += ["", "anomalies"]
    rows += [f"  {name:{NAME_CHARS - 2}} {count:5}" for name, count in figures["anomalies"].items()]
    for name, count in figures["losses"].items():
        rows.append(f"  {name + ' (allowed)':{NAME_CHARS - 2}} {count:5}")
    for kind, lost in figures["lost_by_failover"].items():
        rows.append(
            f"  signals lost by: {kind}, {lost['times']} times: "
            f"median {lost['median']:g}, worst {lost['worst']}"
        )
    rows += [f"  trouble: {trouble}" for trouble in figures["troubles"]]
    return "\n".join(rows)
