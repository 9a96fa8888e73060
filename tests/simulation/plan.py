"""A plan: the external events of a run, as lines of text that a person can read.

    seed 7
    partitions 1
    lease_ms 5000
    0:00.000  orchestrator-1  join
    0:01.250  A  start priority=3 stream=A produces=d1
    0:07.000  A  write a.py,src/** hold=2.5 timeout=60
    0:09.100  orchestrator-1  kill

First the settings, then events: a time, a subject, a verb and its arguments. An agent executes one
line after the other, each as soon as its time has come and the line before is done.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

_TIME = re.compile(r"(\d+):(\d\d)\.(\d\d\d)")


class PlanError(Exception):
    """A line that does not belong in a plan."""


@dataclass(frozen=True, slots=True)
class Line:
    """One event: time in s, subject, verb, arguments."""

    at_s: float
    who: str
    verb: str
    words: tuple[str, ...] = ()

    def option(self, name: str, default: float) -> float:
        """Return the number of an argument `name=…`."""
        for word in self.words:
            key, separator, value = word.partition("=")
            if separator and key == name:
                return float(value)
        return default

    def named(self) -> dict[str, str]:
        """Return all arguments of the form `name=value`."""
        pairs = (word.partition("=") for word in self.words)
        return {key: value for key, separator, value in pairs if separator}

    @property
    def subject(self) -> str:
        """Return the first argument, or ""."""
        return self.words[0] if self.words else ""

    def __str__(self) -> str:
        return "  ".join([show_time(self.at_s), self.who, " ".join((self.verb, *self.words))])


@dataclass(frozen=True)
class Plan:
    """Settings by name, and the lines ordered by time."""

    settings: dict[str, int]
    lines: tuple[Line, ...] = field(default=())

    @property
    def seed(self) -> int:
        """Return the seed of all random numbers of the run."""
        return self.settings["seed"]

    @property
    def end_s(self) -> float:
        """Return the time of the last line."""
        return self.lines[-1].at_s if self.lines else 0.0

    def is_quiet(self, begin_s: float, end_s: float) -> bool:
        """Whether nobody but agents and workers says anything between two times."""
        others = (line.at_s for line in self.lines if line.who in ("intruder", "operator"))
        return not any(begin_s <= at_s <= end_s for at_s in others)

    def of(self, lines: Iterable[Line]) -> Plan:
        """Return the same plan with other lines."""
        return Plan(self.settings, tuple(lines))

    def __str__(self) -> str:
        heading = [f"{name} {value}" for name, value in self.settings.items()]
        return "\n".join([*heading, *map(str, self.lines)]) + "\n"


def read(text: str) -> Plan:
    """Read a plan as `str` writes it; skip lines that begin with #. Raises PlanError."""
    settings: dict[str, int] = {}
    lines: list[Line] = []
    for number, raw in enumerate(text.splitlines(), 1):
        parts = re.split(r"\s{2,}", raw.strip(), maxsplit=2)
        if not raw.strip() or raw.startswith("#"):
            continue
        if len(parts) == 1:
            name, _, value = raw.partition(" ")
            if not value.strip().isdigit():
                raise PlanError(f"line {number}: not a setting and its number: {raw!r}")
            settings[name] = int(value)
            continue
        if len(parts) != 3:
            raise PlanError(f"line {number}: not a time, someone, and what they do: {raw!r}")
        verb, *words = parts[2].split(" ")
        lines.append(Line(read_time(parts[0]), parts[1], verb, tuple(words)))
    if "seed" not in settings:
        raise PlanError("no seed: a plan begins with `seed N`")
    return Plan(settings, tuple(sorted(lines, key=lambda line: line.at_s)))


def read_time(text: str) -> float:
    """Read `m:ss.mmm` as seconds."""
    found = _TIME.fullmatch(text)
    if found is None:
        raise PlanError(f"no time (m:ss.mmm): {text!r}")
    return (int(found[1]) * 60_000 + int(found[2]) * 1000 + int(found[3])) / 1000


def show_time(at_s: float) -> str:
    """Write seconds as `m:ss.mmm`."""
    minutes, ms = divmod(round(at_s * 1000), 60_000)
    return f"{minutes}:{ms // 1000:02}.{ms % 1000:03}"
