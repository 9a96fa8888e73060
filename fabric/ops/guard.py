"""Whether a path may be written now: by whom, and under which fencing token (design, section 6).

The claims that are held say who may, glob claims too; a claim that waits stands in nobody's way.
The answer is that of the moment: it is asked for right before the write.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from fabric.client.session import Session
from fabric.core.record import Claim, ClaimState
from fabric.core.resource import Index, normalise
from fabric.errors import HeldError

#: What makes a glob of a name; in brackets of its own it is a character like any other.
_WILD = re.compile(r"[*?[]")


@dataclass(frozen=True, slots=True)
class Holding:
    """A claim in force on a path: the resource as it was claimed, and since when, ms."""

    resource: str
    agent: str
    token: int
    since_ms: int

    def __str__(self) -> str:
        return (
            f"held by {self.agent} (claimed as {self.resource}, token {self.token}, "
            f"since {_when(self.since_ms)})"
        )


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a path may be written. `refusal` says why not and what to do; "" when it may."""

    path: str
    holdings: tuple[Holding, ...] = ()
    refusal: str = ""

    @property
    def allowed(self) -> bool:
        """Whether it may be written."""
        return not self.refusal

    def demand(self) -> None:
        """Raise HeldError, with the refusal, when it may not."""
        if self.refusal:
            raise HeldError(self.refusal)


async def check(session: Session, path: str, *, token: int | None, agent: str | None) -> Verdict:
    """Say whether a path may be written now; see `judge`. Raises ServerError."""
    (verdict,) = await check_all(session, [path], token=token, agent=agent)
    return verdict


async def check_all(
    session: Session, paths: Sequence[str], *, token: int | None, agent: str | None
) -> list[Verdict]:
    """Say so for each of several paths, all at the same moment. Raises ServerError."""
    held = Held((await session.claims()).values())
    return [judge(path, held.on(path), token=token, agent=agent) for path in paths]


class Held:
    """The claims in force, by what they write."""

    def __init__(self, claims: Iterable[Claim]) -> None:
        self._index = Index()
        self._claims: dict[str, list[Claim]] = {}
        for claim in claims:
            if claim.state is ClaimState.HELD:
                for resource in claim.writes:
                    self._index.add(resource)
                    self._claims.setdefault(resource, []).append(claim)

    def on(self, path: str) -> list[Holding]:
        """Return the claims on a path, by token; of each the first resource that is on it.

        The path is one file or folder: the `[id]` in its name is also meant as it stands.
        """
        spelling = normalise(path)
        found: dict[tuple[int, str], Holding] = {}
        for name in (spelling, _WILD.sub(r"[\g<0>]", spelling)):
            for resource in self._index.overlapping(name):
                for claim in self._claims[resource]:
                    holding = Holding(resource, claim.agent, claim.token, claim.granted_ms)
                    found.setdefault((claim.token, claim.agent), holding)
        return [found[which] for which in sorted(found)]


def judge(path: str, held: Sequence[Holding], *, token: int | None, agent: str | None) -> Verdict:
    """Say whether a path may be written, from the claims that are held on it.

    A token must be that of one of them. Without a token they must be the agent's. In both cases
    they must all be of one and the same agent. A path that nobody holds is free, but not for a
    token: whatever that was granted for has ended.
    """
    holdings = tuple(held)
    if not holdings:
        return Verdict(path, (), "" if token is None else _ended(path, token))
    caller = agent
    if token is not None:
        caller = next((one.agent for one in holdings if one.token == token), None)
    foreign = [one for one in holdings if caller is None or one.agent != caller]
    if not foreign:
        return Verdict(path, holdings)
    if token is None or caller is not None:
        why, what = "", "ask with INTENT, and write after PROCEED"
    elif all(one.agent == agent for one in holdings):
        why = f"; your token {token} has ended"
        what = "look at it again, and write under the token of your last PROCEED"
    else:
        why = f"; your token {token} is not the current one"
        what = "ask again with INTENT, and write after PROCEED"
    return Verdict(path, holdings, f"{path} is {'; '.join(map(str, foreign))}{why}: {what}")


def _ended(path: str, token: int) -> str:
    return (
        f"{path}: nobody holds it now; your token {token} has ended: "
        "ask again with INTENT, and write after PROCEED"
    )


def _when(ms: int) -> str:
    try:
        return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (OverflowError, ValueError, OSError):  # a record written by hand
        return f"{ms} ms"
