"""What one agent waits for or has, by name: given back when nothing of it needs it any more.

A RELEASE names names, and ends every claim and wait of the agent for them. So a name that two
blocks share goes back with the second; and an answer that was meant for an earlier block, and comes
late, is told from a new one by its fencing token.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from fabric.client.request import strings
from fabric.core.resource import normalise
from fabric.core.signal import SignalType


class Holdings:
    """Names in use, and the tokens under which they were granted."""

    def __init__(self, *, is_successor: bool) -> None:
        """`is_successor`: a grant to the incarnation before may still be under way."""
        self._uses: Counter[str] = Counter()
        self._tokens: dict[int, set[str]] = {}
        #: Tokens are handed out in rising order, and most are over soon after.
        self._over: set[int] = set()
        self._doubtful: set[str] = set()
        self._is_successor = is_successor

    def take(self, names: Iterable[str]) -> None:
        """Somebody begins to need these."""
        self._uses.update(normalise(name) for name in names)

    def give(self, names: Iterable[str]) -> list[str]:
        """Somebody needs these no more: return those that nobody needs."""
        left = []
        for name in names:
            known = normalise(name)
            self._uses[known] -= 1
            if self._uses[known] <= 0:
                del self._uses[known]
                left.append(name)
        return left

    def granted(self, token: int, names: Iterable[str]) -> None:
        """These were granted under a token."""
        if token not in self._over:
            self._tokens[token] = set(names)

    def is_over(self, token: int) -> bool:
        """Whether what was granted under a token has been given back."""
        return token in self._over

    def said(self, kind: SignalType, payload: dict[str, Any]) -> None:
        """Follow what the agent gives back, however it says so."""
        if kind is SignalType.RELEASE:
            self._ended(strings(payload.get("resources")))
        elif kind is SignalType.DEPENDENCY_RESOLVED:
            # Whoever resolves what it holds, gives it back.
            self._ended([str(payload.get("dependency_id"))])

    def _ended(self, names: list[str]) -> None:
        given = {normalise(name) for name in names}
        for token, kept in list(self._tokens.items()):
            kept -= given if names else set(kept)
            if not kept:
                del self._tokens[token]
                self._over.add(token)

    def doubt(self, names: Iterable[str]) -> None:
        """A claim on these was given up before its answer came: that may still be under way."""
        self._doubtful.update(normalise(name) for name in names)

    def is_doubtful(self, names: Iterable[str]) -> bool:
        """Whether a grant of these may be one that was given up."""
        return self._is_successor or not self._doubtful.isdisjoint(names)

    def is_sure(self) -> None:
        """A grant was found to stand: nothing that the last incarnation asked for is under way."""
        self._is_successor = False
