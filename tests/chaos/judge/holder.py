"""Holders: by their own records, no two agents hold the same resource at the same time.

Exception: the fabric declared the first dead before it granted the second. An agent that was frozen
or cut off for that long learns it from `fabric guard`, not from its own clock.
"""

from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import NamedTuple

from tests.chaos.ending import between, endings
from tests.chaos.evidence import Evidence
from tests.chaos.journal import Line


class Hold(NamedTuple):
    """A grant, and the time during which its holder relied on it, ms."""

    began: float
    ended: float
    agent: str
    token: int
    names: tuple[str, ...]


def judge(evidence: Evidence) -> Iterator[str]:
    """Yield each pair of holders that overlap."""
    holds: dict[str, list[Hold]] = {}
    for session, agent, lives in evidence.members():
        for life in lives:
            holds.setdefault(session, []).extend(_holds(agent, life))
    for session, found in holds.items():
        gone, granted = endings(evidence, session), _grants(evidence, session)
        for first, second in _meetings(sorted(found)):
            # The smaller token was granted first.
            early, late = sorted((first, second), key=lambda hold: hold.token)
            grants = [granted.get(hold.token) for hold in (early, late)]
            if [grant and grant[1] for grant in grants] != [early.agent, late.agent]:
                continue  # a failover has lost the grant, with all its effects
            after, before = granted[early.token][0], granted[late.token][0]
            if not between(gone.get(early.agent, []), after, before):
                yield f"{session}: {early} and {late}"


def _holds(agent: str, life: list[Line]) -> Iterator[Hold]:
    """Yield what was held in one life; its last line ends what it did not release."""
    last = life[-1]["at"] if life else 0.0
    given: dict[int, float] = {
        line["token"]: line["at"] for line in life if line["what"] == "releases"
    }
    for line in life:
        if line["what"] == "holds":
            ended = given.get(line["token"], last)
            yield Hold(line["at"], ended, agent, line["token"], tuple(line["names"]))


def _grants(evidence: Evidence, session: str) -> dict[int, tuple[int, str]]:
    """Return for each token the log number of its grant, and the holder."""
    return {
        entry.payload["token"]: (entry.number, entry.fields["to"])
        for entry in evidence.log(session)
        if entry.fields.get("type") == "PROCEED" and "token" in entry.payload
    }


def _meetings(holds: list[Hold]) -> Iterator[tuple[Hold, Hold]]:
    """Yield every two holds of different agents that overlap in time and in resources."""
    open_: list[Hold] = []
    for hold in holds:
        open_ = [other for other in open_ if other.ended > hold.began]
        for other in open_:
            if other.agent != hold.agent and _overlap(other.names, hold.names):
                yield other, hold
        open_.append(hold)


def _overlap(some: tuple[str, ...], others: tuple[str, ...]) -> bool:
    return any(
        one == two or fnmatchcase(one, two) or fnmatchcase(two, one)
        for one in some
        for two in others
    )
