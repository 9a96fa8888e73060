"""A barrier opens once a generation, and never without its members."""

from __future__ import annotations

from typing import Any

import msgspec

from tests.simulation.judge.judge import Commit, Judge, Violation


class Barriers(Judge):
    """Follows every barrier and every agent's end in the server's records."""

    def __init__(self) -> None:
        self._barriers: dict[tuple[str, str], dict[str, Any]] = {}
        #: Session, name and generation of every opened barrier.
        self._opened: set[tuple[str, str, int]] = set()

    def committed(self, commit: Commit) -> None:
        """See Judge."""
        changed: dict[tuple[str, str], dict[str, Any]] = {}
        for session, changes in commit.hashes("barriers"):
            for name, value in changes.items():
                if value is not None:
                    changed[session, name] = msgspec.json.decode(value)
        for where, now in changed.items():
            before = self._barriers.get(where, {"generation": 0, "state": "over"})
            if now["generation"] < before["generation"]:
                raise Violation("generations rise", f"{where}: {now}")
            if now["state"] == "integrating":
                missing = set(now.get("members", [])) - set(now.get("arrived", {}))
                if missing:
                    raise Violation(
                        "a barrier never opens without its members",
                        f"{where}: {sorted(missing)} missing in generation {now['generation']}",
                    )
            elif now["state"] == "gathering" and (*where, now["generation"]) in self._opened:
                raise Violation("a barrier opens once", f"{where} gathers again: {now}")
            self._barriers[where] = now
            if now["state"] == "integrating":
                self._opened.add((*where, now["generation"]))
