"""One holder a resource; fencing tokens always rise, and each is granted once."""

from __future__ import annotations

from typing import Any

import msgspec

from fabric.core.resource import overlap
from tests.simulation.judge.judge import Commit, Judge, Violation


class Claims(Judge):
    """Follows the claims of every session in the server's records."""

    def __init__(self) -> None:
        self._claims: dict[str, dict[str, dict[str, Any]]] = {}
        self._last_token: dict[str, int] = {}

    def committed(self, commit: Commit) -> None:
        """See Judge."""
        before = dict(self._last_token)
        touched: dict[str, None] = {}
        for session, changes in commit.hashes("claims"):
            touched[session] = None
            claims = self._claims.setdefault(session, {})
            for claim_id, value in changes.items():
                if value is None:
                    claims.pop(claim_id, None)
                    continue
                known, now = claims.get(claim_id, {}), msgspec.json.decode(value)
                claims[claim_id] = now
                if now.get("token", 0) and now["token"] != known.get("token", 0):
                    self._granted(session, now, before.get(session, 0))
        for session in touched:
            self._look_over(session, self._claims[session])

    def _granted(self, session: str, claim: dict[str, Any], last: int) -> None:
        # Tokens of one commit have no order: each must be above all of the earlier commits.
        if claim["token"] <= last:
            raise Violation("tokens rise for ever", f"{session}: {claim} after token {last}")
        self._last_token[session] = max(self._last_token.get(session, 0), claim["token"])

    def _look_over(self, session: str, claims: dict[str, dict[str, Any]]) -> None:
        held = [one for one in claims.values() if one["state"] == "held"]
        tokens = [one["token"] for one in held]
        if len(set(tokens)) != len(tokens):
            raise Violation("tokens are given once", f"{session}: {sorted(tokens)}")
        for number, one in enumerate(held):
            for other in held[number + 1 :]:
                if one["agent"] == other["agent"]:
                    continue
                for mine, theirs in _collisions(one, other):
                    raise Violation(
                        "one holder a resource",
                        f"{session}: {one['agent']} has {mine}, {other['agent']} has {theirs}",
                    )


def _collisions(one: dict[str, Any], other: dict[str, Any]) -> list[tuple[str, str]]:
    found = []
    for writer, reader in ((one, other), (other, one)):
        for mine in writer["writes"]:
            for theirs in [*reader["writes"], *reader.get("reads", [])]:
                if overlap(mine, theirs):
                    found.append((mine, theirs))
    return found
