"""The evidence of a run: the agents' own records, and what the servers held at the end.

Everything is streamed from files, line by line; no check needs the servers.
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
from tests.chaos.roster import MORTAL


class Life(NamedTuple):
    """One incarnation of one agent."""

    session: str
    agent: str
    incarnation: int


class Entry(NamedTuple):
    """One stream entry whose id is a log number and a part."""

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
        """Return a numeric field, or 0."""
        text = self.fields.get(field, "")
        return int(text) if text.isdecimal() else 0


class Numbers:
    """A set of numbers that mostly grow by one, stored as ranges."""

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
    """The evidence in one stage's directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._sessions = directory / "server" / "sessions"

    @cached_property
    def sessions(self) -> list[str]:
        """Return every session that the servers knew, but those that end while the run lasts."""
        names = (unquote(path.name) for path in self._sessions.iterdir())
        return sorted(name for name in names if not name.startswith(f"{MORTAL}-"))

    def stream(self, session: str, name: str) -> Iterator[Entry]:
        """Yield the entries of a session's stream: log, broadcast, revisions, inbox/<agent>."""
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
        """Return the agents with an inbox."""
        folder = self._sessions / in_path(session) / "inbox"
        return sorted(unquote(path.stem) for path in folder.glob("*.jsonl"))

    def hashes(self, session: str) -> dict[str, dict[str, str]]:
        """Return a session's hashes by name, such as agents, claims and synthesis."""
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
        """Yield every dead letter."""
        decode = msgspec.json.Decoder(tuple[str, dict[str, str]]).decode
        for path in sorted((self.directory / "server" / "dead").glob("*.jsonl")):
            with path.open("rb") as file:
                yield from (decode(line)[1] for line in file)

    def records(self) -> Iterator[tuple[str, str, Path]]:
        """Yield session, name and path of every record; a bulk sender keeps one for many agents."""
        for path in sorted((self.directory / "agents").glob("*/*.jsonl")):
            yield path.parent.name, path.stem, path

    def members(self) -> Iterator[tuple[str, str, list[list[Line]]]]:
        """Yield session, name and lives of every agent with a record of its own."""
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
        """Return begin and end of the last FLUSHALL; zeros if there was none."""
        began = ended = 0.0
        for line in lines(self.directory / "faults.jsonl"):
            began = line["at"] if line["what"] == "flushing" else began
            ended = line["at"] if line["what"] == "flushed" else ended
        return began, ended

    def acknowledged(self) -> dict[Life, Numbers]:
        """Return every signal that the server has acknowledged since the last flush.

        Signals that were in flight during the flush are left out: they may have come before it.
        """
        found: dict[Life, Numbers] = defaultdict(Numbers)
        for life, number, meant, _ in self.sent():
            if meant >= self.flush[1]:
                found[life].add(number)
        return found

    def gone(self) -> dict[Life, Numbers]:
        """Return every signal that was acknowledged before the last flush began."""
        found: dict[Life, Numbers] = defaultdict(Numbers)
        for life, number, _, sent in self.sent():
            if sent < self.flush[0]:
                found[life].add(number)
        return found

    def sent(self) -> Iterator[tuple[Life, int, float, float]]:
        """Yield every acknowledged signal, with the times before and after it was sent."""
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
