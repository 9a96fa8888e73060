"""Refiners, as a user's package has them, and a synthesizer that runs them."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from fabric.core.rules import Rules
from fabric.store.keys import SYNTHESIZERS, Partition
from fabric.store.port import WorkerStore
from tests.support.in_process import settings
from tests.support.servers import ROOT
from tests.workers.troubled import PARTITION, TroubledStore
from workers import refinement, synthesizer
from workers.replica import Replica
from workers.synthesizer import Synthesizer

KEYS = PARTITION.session("s")

#: Each first notes the revision and the findings that it was given, and its process id.
REFINERS = """
import json, os, pathlib, subprocess, sys, time
folder = pathlib.Path(os.environ["FOLDER"])

def note(document):
    seen = [document["revision"], sorted(document["findings"]), document["complete"]["final"]]
    with open(folder / "runs", "a") as file:
        file.write(json.dumps([*seen, os.getpid()]) + "\\n")

def count(document):
    note(document)
    print("noise")
    return {"findings": len(document["findings"]), "url": os.environ.get("FABRIC_REDIS_URL")}

def turn(mark):
    with open(folder / "turns", "a") as file:
        file.write(mark)

def gated(document):
    turn("+")
    note(document)
    while not (folder / "go").exists():
        time.sleep(0.01)
    turn("-")
    return document["revision"]

async def later(document):
    note(document)
    return "later"

def whole(document):
    note(document)
    return document

class grouped:
    def map(self, group):
        with open(folder / "mapped", "a") as file:
            file.write(group["name"] + "\\n")
        return sorted(group["findings"])

    def reduce(self, mapped, document):
        note(document)
        return {"mapped": mapped, "changed": document["changed"]}

class at_once:
    async def map(self, group):
        note({"revision": 0, "findings": group["findings"], "complete": {"final": False}})
        raise KeyError("secret")

def nothing(document):
    note(document)

def raising(document):
    note(document)
    raise KeyError("secret")

def crashing(document):
    note(document)
    os._exit(3)

def leaving(document):
    note(document)
    sys.exit("secret")

def killed(document):
    note(document)
    os.kill(os.getpid(), 9)

def garbage(document):
    note(document)
    return {"secret": object()}

def infinite(document):
    note(document)
    return float("inf")

def large(document):
    note(document)
    return "secret" * 1_000_000

def deep(document):
    note(document)
    value = "secret"
    for _ in range(100):
        value = [value]
    return value

def hungry(document):
    note(document)
    return len(bytearray(8 * 2**30))

def hanging(document):
    note(document)
    if (folder / "free").exists():
        return "free"
    child = subprocess.Popen(["sleep", "1000"])
    (folder / "child").write_text(str(child.pid))
    child.wait()
"""

NAMES = (
    *("count", "gated", "later", "whole", "nothing", "raising", "crashing", "leaving", "killed"),
    *("garbage", "infinite", "large", "deep", "hungry", "hanging", "grouped", "at_once"),
)


def install(folder: Path, module: str, text: str, **groups: Sequence[str]) -> Path:
    """Install a package into a folder: a module, and its entry points."""
    site = folder / "site"
    metadata = site / f"{module}-1.0.dist-info"
    metadata.mkdir(parents=True)
    (site / f"{module}.py").write_text(text)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
    lines = [
        line
        for group, names in groups.items()
        for line in (f"[fabric.{group}]", *(f"{name} = {module}:{name}" for name in names))
    ]
    (metadata / "entry_points.txt").write_text("\n".join(lines) + "\n")
    return site


def prepare(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Install the refiners for child processes; return the folder where their runs write notes."""
    site = install(folder, "refining_tests", REFINERS, refiners=NAMES)
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{site}")
    monkeypatch.setenv("FOLDER", str(folder))
    monkeypatch.setenv("FABRIC_REDIS_URL", "redis://:secret@host")
    monkeypatch.setattr(refinement, "LOOK_MS", 20)
    return folder


def rules(*refiners: str, ms_max: int = 60_000) -> Rules:
    """Return rules with so short a pause that a test need not wait for a refiner."""
    return Rules(refiners=refiners, refine_pause_ms=20, refine_ms_max=ms_max, settle_ms=0)


def runs(folder: Path) -> list[list[Any]]:
    """Return the notes of runs: revision, findings, whether final, process id."""
    noted = folder / "runs"
    return [json.loads(line) for line in noted.read_text().splitlines()] if noted.exists() else []


def values(store: TroubledStore) -> dict[str, Any]:
    """Return the refined values in the session's document, by refiner."""
    fields = store.data.hash(KEYS.synthesis).items()
    return {
        name.decode().removeprefix("refined:"): json.loads(value)
        for name, value in fields
        if name.startswith(b"refined:")
    }


def refined(store: TroubledStore) -> list[dict[str, str]]:
    """Return the REFINED signals in the session's log."""
    return [row for row in store.rows(KEYS.log) if row["type"] == "REFINED"]


def timers(store: TroubledStore) -> list[str]:
    """Return the synthesizers' timers."""
    return [name.decode() for name in store.data.sorted_set(PARTITION.timers(SYNTHESIZERS))]


async def find(store: TroubledStore, key: str, session: str = "s") -> None:
    """Have an agent report a finding."""
    finding = {"partial": {"findings": [{"key": key, "value": 1}]}}
    await store.say(session, "A", "PARTIAL_RESULT", json.dumps(finding))


@asynccontextmanager
async def folding(
    store: TroubledStore, rules: Rules, installed: Sequence[str] | None = None
) -> AsyncIterator[list[Synthesizer]]:
    """A working synthesizer; at the end it is drained, and its refiners are killed."""
    chosen = settings("redis://unused")
    names = rules.refiners if installed is None else installed
    make = synthesizer.factory(rules, chosen, {}, names)
    handlers: list[Synthesizer] = []

    def noted(given: WorkerStore, partition: Partition) -> Synthesizer:
        handlers.append(make(given, partition))
        return handlers[-1]

    stop = asyncio.Event()
    running = asyncio.create_task(
        Replica(store, SYNTHESIZERS, noted, chosen, "synthesizer").run(stop)
    )
    try:
        yield handlers
    finally:
        stop.set()
        await running
