"""Four clients of four vendors add a line to each of twelve files, all at once: how many are lost?

    python -m tests.clients.collision --rounds 20             with the fabric
    python -m tests.clients.collision --rounds 20 --without   the same, without any hook

Each client reads a file and writes it anew (`edit.py`; Codex with a patch), and the model lets
all of them write after all of them have read, so every edit collides with three others. An edit is
lost if its line is not in the file when all four have ended. The table goes to stdout as Markdown.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from fabric import SyncFabric
from tests.clients.bench import PROGRAMS, Bench, call
from tests.clients.scripted_model import Model
from tests.support.daemon import Daemon
from tests.support.servers import FLAVOUR_DEFAULT, start_server

FILES = 12

#: Seconds for a round: four clients start, and wait for each other at every file.
ROUND_S = 600.0

#: Seconds for all to come to a file, with the fabric: some of them wait for one that another has.
MEET_S = 0.5

#: How a refusal explains itself.
_REASONS = {
    "held by another": re.compile(r"refused this write: \S+ is held by \S+"),
    "changed since it was read": re.compile(r"refused this write: \S+ was changed"),
    "would be a deadlock": re.compile(r"refused this write: .{0,400}?were released, so that"),
}
_REFUSAL = re.compile(r"Signal Fabric refused this write")


class Round(NamedTuple):
    """One round: edits made, edits lost, refusals by reason, clients that failed, seconds."""

    edits: int
    lost: int
    refusals: Counter[str]
    failed: list[str]
    seconds: float


def template(harness: str, kind: str) -> object:
    """Return the call of a client's tool, with its path and text still open."""
    if (harness, kind) == ("codex", "write"):
        patch = "*** Begin Patch\n*** Update File: {path}\n@@\n{patch}*** End Patch"
        return {"name": "apply_patch", "raw": patch}
    return call(harness, kind, "{path}", "{text}")


def scripted(bench: Bench, harnesses: list[str], number: int, names: list[str]) -> None:
    """Write the scripts of a round: each client adds its line to each file."""
    for harness in harnesses:
        edits = [
            {"path": str(bench.project / name), "line": f"line-{harness}-r{number}-f{index}"}
            for index, name in enumerate(names)
        ]
        calls = {kind: template(harness, kind) for kind in ("read", "write")}
        bench.model.script(
            f"{harness}{number}",
            {"edits": edits, "round": number, "count": len(harnesses), **calls},
        )


def play(bench: Bench, harnesses: list[str], number: int, files: int) -> Round:
    """Run one round."""
    names = [f"file{index}.txt" for index in range(files)]
    for index, name in enumerate(names):
        (bench.project / name).write_text(f"line-base-r{number}-f{index}\n")
    bench.model.requests.clear()
    scripted(bench, harnesses, number, names)
    began = time.monotonic()
    started = {
        harness: bench.start(harness, f"{harness}{number}", harness.upper())
        for harness in harnesses
    }
    failed = []
    for harness, process in started.items():
        try:
            if process.wait(max(1.0, ROUND_S - (time.monotonic() - began))):
                failed.append(harness)
        except subprocess.TimeoutExpired:
            failed.append(harness)
    lost = [
        f"line-{harness}-r{number}-f{index}"
        for index, name in enumerate(names)
        for harness in harnesses
        if f"line-{harness}-r{number}-f{index}" not in (bench.project / name).read_text()
    ]
    seconds = time.monotonic() - began
    return Round(len(harnesses) * files, len(lost), refusals(bench.model), failed, seconds)


def refusals(model: Model) -> Counter[str]:
    """Return how often a write was refused, by the reason that the client was given."""
    told = [json.dumps(body) for _, _, body in _last(model).values()]
    found = Counter(
        {why: sum(len(form.findall(one)) for one in told) for why, form in _REASONS.items()}
    )
    found["not explained"] = sum(len(_REFUSAL.findall(one)) for one in told) - found.total()
    return found


def _last(model: Model) -> dict[str, tuple[str, int, object]]:
    """Return the last request of each script: it holds the whole conversation."""
    return {one[0]: one for one in model.requests}


def left_over(url: str) -> str:
    """Say what is still held or waited for when all have ended; "" if nothing is."""
    deadline = time.monotonic() + 30
    with SyncFabric.connect(url, namespace="fabric", session="demo") as fabric:
        while claims := fabric.session().claims():
            if time.monotonic() > deadline:
                return str(claims)
            time.sleep(0.1)
    return ""


def run(rounds: int, harnesses: list[str], *, with_fabric: bool, files: int = FILES) -> list[Round]:
    """Run several rounds on one server."""
    server = start_server(FLAVOUR_DEFAULT)
    daemon = Daemon(server.url, lease_ms=5_000)
    found = []
    try:
        meet_s = {"meet_s": MEET_S} if with_fabric else {}
        with (
            tempfile.TemporaryDirectory() as folder,
            Model(Path(folder, "scripts"), **meet_s) as model,
        ):
            url = server.url if with_fabric else None
            bench = Bench(Path(folder, "bench"), model, url)
            try:
                for number in range(rounds):
                    found.append(play(bench, harnesses, number, files))
                    sys.stderr.write(f"round {number}: {found[-1]}\n")
                    if with_fabric and (left := left_over(server.url)):
                        raise AssertionError(left)
            finally:
                bench.close()
    finally:
        daemon.close()
        server.remove()
    return found


def main() -> int:
    """Run it, and print the table."""
    parser = argparse.ArgumentParser(description="How many edits of colliding clients are lost?")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--without", action="store_true", help="without the fabric's hooks")
    chosen = parser.parse_args()
    harnesses = [name for name, program in PROGRAMS.items() if program.exists()]
    found = run(chosen.rounds, harnesses, with_fabric=not chosen.without)
    edits, lost = sum(one.edits for one in found), sum(one.lost for one in found)
    reasons: Counter[str] = Counter()
    for one in found:
        reasons.update(one.refusals)
    said = ", ".join(f"{count} {why}" for why, count in reasons.items() if count) or "none"
    failed = sum(len(one.failed) for one in found)
    seconds = sum(one.seconds for one in found) / max(1, len(found))
    sys.stdout.write(
        "| | rounds | edits | lost | refusals | clients that failed | a round, s |\n"
        "|---|---|---|---|---|---|---|\n"
        f"| {'without' if chosen.without else 'with'} the fabric | {len(found)} | {edits} | {lost} "
        f"| {said} | {failed} | {seconds:.0f} |\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
