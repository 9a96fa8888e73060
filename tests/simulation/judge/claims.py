"""One holder a resource; tokens rise, each is granted once, and none while a leader integrates."""

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
        #: Session and token of all that was granted; and in histories that the server has lost.
        self._tokens: set[tuple[str, int]] = set()
        self.lost_tokens: set[tuple[str, int]] = set()
        #: Session and token → when that grant ended, by the server's clock, ms.
        self.ended_ms: dict[tuple[str, int], int] = {}
        #: Session → its barriers that integrate: name → generation and leader.
        self._integrating: dict[str, dict[str, tuple[int, str]]] = {}

    def replaces(self, later: Claims) -> None:
        """Take note of the tokens of a history that ends with this judge's moment."""
        self.lost_tokens |= later.lost_tokens | (later._tokens - self._tokens)

    def committed(self, commit: Commit) -> None:
        """See Judge."""
        before = dict(self._last_token)
        integrating = self._follow_barriers(commit)
        touched: dict[str, None] = {}
        for session, changes in commit.hashes("claims"):
            touched[session] = None
            claims = self._claims.setdefault(session, {})
            for claim_id, value in changes.items():
                before_it = claims.get(claim_id, {}).get("token", 0)
                is_kept = value is not None and before_it == msgspec.json.decode(value).get("token")
                if before_it and not is_kept:
                    self.ended_ms[session, before_it] = commit.now_ms
                if value is None:
                    claims.pop(claim_id, None)
                    continue
                known, now = claims.get(claim_id, {}), msgspec.json.decode(value)
                claims[claim_id] = now
                if now.get("token", 0) and now["token"] != known.get("token", 0):
                    self._granted(session, now, before.get(session, 0))
                    self._check_new(session, now)
                    for name, leader in integrating.get(session, {}).items():
                        if now["agent"] != leader:
                            raise Violation(
                                "nothing is granted while a leader integrates",
                                f"{session}: {now} while {leader} integrates {name}",
                            )
        for session in touched:
            self._look_over(session, self._claims[session])

    def _follow_barriers(self, commit: Commit) -> dict[str, dict[str, str]]:
        """Return the barriers that integrate all through a commit: session → name → leader."""
        before = {session: dict(names) for session, names in self._integrating.items()}
        for session, changes in commit.hashes("barriers"):
            known = self._integrating.setdefault(session, {})
            for name, value in changes.items():
                known.pop(name, None)
                now = {} if value is None else msgspec.json.decode(value)
                if now.get("state") == "integrating":
                    known[name] = now["generation"], now["leader"]
        return {
            session: {
                name: found[1]
                for name, found in names.items()
                if before.get(session, {}).get(name) == found
            }
            for session, names in self._integrating.items()
        }

    def _granted(self, session: str, claim: dict[str, Any], last: int) -> None:
        # Tokens of one commit have no order: each must be above all of the earlier commits.
        if claim["token"] <= last:
            raise Violation("tokens rise for ever", f"{session}: {claim} after token {last}")
        self._last_token[session] = max(self._last_token.get(session, 0), claim["token"])

    def _check_new(self, session: str, claim: dict[str, Any]) -> None:
        """Check that no claim had this token, in a history that the server has lost either."""
        token = claim["token"]
        if (session, token) in self.lost_tokens:
            raise Violation("a token is granted in one history", f"{session}: {claim} after a loss")
        self._tokens.add((session, token))

    def _look_over(self, session: str, claims: dict[str, dict[str, Any]]) -> None:
        held = [one for one in claims.values() if one["state"] == "held"]
        tokens = [one["token"] for one in held]
        if len(set(tokens)) != len(tokens):
            raise Violation("tokens are given once", f"{session}: {sorted(tokens)}")
        for number, one in enumerate(held):
            for other in held[number + 1 :]:
                if one["agent"] == other["agent"]:
                    continue
                if (
                    one.get("copy", "") != other.get("copy", "")
                    and one.get("copy")
                    and other.get("copy")
                ):
                    continue  # each in a copy of the files of its own
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
