"""Who got which file when, and whom it waited for, taken from a session's log. Pure."""

from __future__ import annotations

from typing import Any

import msgspec


class Turn(msgspec.Struct, frozen=True):
    """One agent's turn at one file, under a fencing token; times in ms since the session opened."""

    agent: str
    priority: int
    asked_ms: int
    given_ms: int
    token: int
    waited_for: tuple[str, ...] = ()


class Turns:
    """Follows what agents ask to write and what they are given; `priorities`: agent → priority."""

    def __init__(self, priorities: dict[str, int]) -> None:
        self._priorities = priorities
        #: (agent, path) → when it asked, and whom it has waited for so far.
        self._open: dict[tuple[str, str], tuple[int, list[str]]] = {}
        self._made: dict[str, list[Turn]] = {}

    def of(self, path: str) -> tuple[Turn, ...]:
        """Return the turns at a file, in order."""
        return tuple(self._made.get(path, ()))

    def take(self, word: str, agent: str, payload: dict[str, Any], at_ms: int) -> None:
        """Take in a signal of an agent, or a directive to it."""
        if word == "INTENT":
            for path in payload.get("writes", ()):
                self._open.setdefault((agent, path), (at_ms, []))
        elif word == "WAIT":
            for path in payload["resources"]:
                self._note(agent, path, payload["holder"])
        elif word == "PROCEED" and payload.get("token") is not None:
            for path in payload["resources"]:
                self._given(agent, path, payload["token"], at_ms)

    def _given(self, agent: str, path: str, token: int, at_ms: int) -> None:
        opened = self._open.pop((agent, path), None)
        if opened is None:
            return  # it is told again what it has
        asked_ms, waited = opened
        priority = self._priorities.get(agent, 0)
        turn = Turn(agent, priority, asked_ms, at_ms, token, tuple(waited))
        self._made.setdefault(path, []).append(turn)
        for other, wanted in self._open:
            if wanted == path:
                self._note(other, path, agent)

    def _note(self, agent: str, path: str, holder: str) -> None:
        _, waited = self._open.get((agent, path), (0, []))
        if holder and holder not in waited:
            waited.append(holder)
