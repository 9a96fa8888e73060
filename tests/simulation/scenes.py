"""Scenes: short plans that bring about what a random day seldom does.

`scenes.txt` has them, each written as a plan: the settings that it needs, then its lines. Random
plans end with one now and then. A mutation may name the scene in which it is to be found: then the
plan is the scene alone, which takes a tenth of the time. The seed chooses what the scene leaves
open: the other settings, and by how little each line is late.
"""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

from tests.simulation.plan import Line, Plan, read

#: How late a line of a scene may be, s.
LATE_S_MAX = 0.2

#: Settings of a scene's plan that the scene leaves open: what the seed chooses from.
OPEN: dict[str, tuple[int, ...]] = {
    "partitions": (1, 2),
    "orchestrators": (1, 2),
    "synthesizers": (1,),
    "lease_ms": (5_000,),
    "heartbeat_ms": (10_000,),
    "ingress_max": (1_000,),
    "cached_max": (1, 1_000),
    "batch_max": (1, 4, 256),
    "page_max": (2, 256),
    "rules": (0, 1, 2, 3),
    "forgetful": (0,),
}

#: Scenes by name, as text.
SCENES: dict[str, str] = dict(
    text.split("\n", 1)
    for text in Path(__file__).with_suffix(".txt").read_text(encoding="utf-8").split("== ")[1:]
)


def fits(name: str, settings: dict[str, int]) -> bool:
    """Whether a plan's settings are those that a scene needs."""
    return all(settings[one] == value for one, value in _read(name)[0].items())


def lines(name: str, at_s: float, chance: random.Random) -> list[Line]:
    """Return the lines of a scene that begins at a time: its agents start anew."""
    told = _read(name)[1]
    ends = [Line(at_s, one.who, "kill") for one in told if one.verb == "start"]
    return ends + [
        replace(line, at_s=round(at_s + 1 + line.at_s + chance.uniform(0, LATE_S_MAX), 3))
        for line in told
    ]


def plan(name: str, seed: int) -> Plan:
    """Return the plan that is one scene only."""
    chance = random.Random(f"{seed}/{name}")
    settings = {setting: chance.choice(values) for setting, values in OPEN.items()}
    told = lines(name, 0.0, chance)
    given = {"seed": seed} | settings | _read(name)[0]
    return Plan(given, tuple(sorted(told, key=lambda line: line.at_s)))


def _read(name: str) -> tuple[dict[str, int], tuple[Line, ...]]:
    """Return the settings that a scene needs, and its lines."""
    told = read(f"seed 0\n{SCENES[name]}")
    del told.settings["seed"]
    return told.settings, told.lines
