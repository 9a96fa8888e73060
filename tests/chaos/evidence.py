"""What a run has left behind: the agents' own records, and what the servers held at the end.

Everything is streamed from files, line by line; no judgement needs the server again.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

import msgspec

from tests.chaos.collect import in_path
from tests.chaos.journal import Line, lines


class Life(NamedTuple):
    """One incarnation of one agent."""

    session: str
    agent: str
    incarnation: int


class Entry(NamedTuple):
    """One stream entry with a counted id."""

    number: int
    part: int
    fields: dict[str, str]

    @property
    def id(self) -> str:
        return f"{self.number}-{self.part}"

    @property
    def is_signal(self) -> bool:
        return self.fields.get("kind") == "signal"

    @property
    def payload(self) -> Any:
        return msgspec.json.decode(self.fields.get("payload") or "{}")

    def life(self, session: str) -> Life:
        return Life(session, self.fields.get("emitter", ""), self.count("incarnation"))

    def count(self, field: str) -> int:
        """A number among the fields; 0 where there is none."""
        text = self.fields.get(field, "")
        return int(text) if text.isdecimal() else 0


class Numbers:
    """A set of numbers that mostly grow by one: kept as ranges."""

    def __init__(self) -> None:
        self._firsts: list[int] = []
        self._lasts: list[int] = []

    def add(self, number: int) -> None:
        if self._lasts and number == self._lasts[-1] + 1:
            self._lasts[-1] = number
        elif number not in self:
            place = bisect_right(self._firsts, number)
            self._firsts.insert(place, number)
            self._lasts.insert(place, number)

    def __iter__(self) -> Iterator[int]:
        for first, last in zip(self._firsts, self._lasts, strict=True):
            yield from range(first, last + 1)

    def __len__(self) -> int:
        return sum(self._lasts) - sum(self._firsts) + len(self._lasts)

    def __contains__(self, number: int) -> bool:
        place = bisect_right(self._firsts, number) - 1
        return place >= 0 and number <= self._lasts[place]


class Evidence:
    """One run's directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._sessions = directory / "server" / "sessions"

    @cached_property
    def sessions(self) -> list[str]:
        """Every session that the servers knew."""
        return sorted(unquote(path.name) for path in self._sessions.iterdir())

    def stream(self, session: str, name: str) -> Iterator[Entry]:
        """A stream of a session: log, broadcast, revisions, inbox/<agent>."""
        path = self._sessions / in_path(session) / f"{name}.jsonl"
        if not path.exists():
            return
        decode = msgspec.json.Decoder(tuple[str, dict[str, str]]).decode
        with path.open("rb") as file:
            for line in file:
                entry_id, fields = decode(line)
                number, _, part = entry_id.partition("-")
                yield Entry(int(number), int(part), fields)

    def log(self, session: str) -> Iterator[Entry]:
        return self.stream(session, "log")

    def inboxes(self, session: str) -> list[str]:
        """Agents with an inbox."""
        folder = self._sessions / in_path(session) / "inbox"
        return sorted(unquote(path.stem) for path in folder.glob("*.jsonl"))

    def hashes(self, session: str) -> dict[str, dict[str, str]]:
        """The session's hashes: agents, claims, barriers, escalations, dependencies, synthesis."""
        path = self._sessions / in_path(session) / "hashes.json"
        return msgspec.json.decode(path.read_bytes(), type=dict[str, dict[str, str]])

    @cached_property
    def partitions(self) -> dict[str, Any]:
        return self._document("partitions.json")

    @cached_property
    def replay(self) -> dict[str, list[str]]:
        return self._document("replay.json")

    def _document(self, name: str) -> dict[str, Any]:
        path = self.directory / "server" / name
        return msgspec.json.decode(path.read_bytes(), type=dict[str, Any])

    def dead(self) -> Iterator[dict[str, str]]:
        """Every dead letter."""
        decode = msgspec.json.Decoder(tuple[str, dict[str, str]]).decode
        for path in sorted((self.directory / "server" / "dead").glob("*.jsonl")):
            with path.open("rb") as file:
                yield from (decode(line)[1] for line in file)

    def records(self) -> Iterator[tuple[str, str, Path]]:
        """Session, name and path of every record that an agent, or a process of many, has kept."""
        for path in sorted((self.directory / "agents").glob("*/*.jsonl")):
            yield path.parent.name, path.stem, path

    def members(self) -> Iterator[tuple[str, str, list[list[Line]]]]:
        """Session, name and lives of every agent that has kept a record of its own."""
        for session, agent, path in self.records():
            lives: list[list[Line]] = [[]]
            for line in lines(path):
                if line["what"] == "began":
                    lives.append([])
                lives[-1].append(line)
            if any("inc" in line for life in lives for line in life):
                yield session, agent, lives

    @cached_property
    def flush(self) -> tuple[float, float]:
        """When everything was last lost by FLUSHALL: from when to when; zeros when it never was."""
        began = ended = 0.0
        for line in lines(self.directory / "faults.jsonl"):
            began = line["at"] if line["what"] == "flushing" else began
            ended = line["at"] if line["what"] == "flushed" else ended
        return began, ended

    def acknowledged(self) -> dict[Life, Numbers]:
        """Every signal whose arrival the server has confirmed to its sender, since the last flush.

        What was on its way at the flush may have come before or after it.
        """
        found: dict[Life, Numbers] = defaultdict(Numbers)
        for life, number, meant, _ in self.sent():
            if meant >= self.flush[1]:
                found[life].add(number)
        return found

    def gone(self) -> dict[Life, Numbers]:
        """Every signal that was confirmed before the last flush began."""
        found: dict[Life, Numbers] = defaultdict(Numbers)
        for life, number, _, sent in self.sent():
            if sent < self.flush[0]:
                found[life].add(number)
        return found

    def sent(self) -> Iterator[tuple[Life, int, float, float]]:
        """Every confirmed signal, with the times before it was sent and after."""
        for session, agent, path in self.records():
            meant: dict[tuple[int, int], float] = {}
            batch_meant = 0.0
            for line in lines(path):
                if line["what"] == "sending":
                    meant[line["inc"], line["seq"]] = line["at"]
                elif line["what"] == "sending batch":
                    batch_meant = line["at"]
                elif line["what"] == "sent":
                    place = line["inc"], line["seq"]
                    yield Life(session, agent, place[0]), place[1], meant.pop(place), line["at"]
                elif line["what"] == "sent batch":
                    for name, (incarnation, first, last) in line["batch"].items():
                        for number in range(first, last + 1):
                            yield Life(session, name, incarnation), number, batch_meant, line["at"]
