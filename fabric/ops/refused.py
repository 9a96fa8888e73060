"""Results of a session that were refused: they are not in its synthesis, and a report says so."""

from __future__ import annotations

import shlex
from typing import Any, NamedTuple

import msgspec

from fabric.ops.dead_letters import DeadLetters, Letter
from fabric.view.text import counted

#: Dead letters that are looked through, the newest first: each is up to a payload long.
LETTERS_MAX = 5_000

_UNREADABLE = (msgspec.MsgspecError, ValueError, RecursionError)


class Refused(NamedTuple):
    """How many results were refused, and how many findings they had.

    `more` tells that not all letters were read.
    """

    results: int
    findings: int
    more: bool

    def sentence(self, session: str) -> str:
        """Say in a sentence what is missing and where it is; "" if nothing is."""
        if not self.results:
            return ""
        least = "at least " if self.more else ""
        verb = "is" if self.results == 1 else "are"
        what = f"{least}{counted(self.results, 'refused result')}"
        inside = f", {counted(self.findings, 'finding')} in all," if self.findings else ""
        where = shlex.join(["fabric", "dead", "--session", session])
        return f"Not in it {verb} {what}{inside} with the reasons in `{where}`."


async def refused_results(letters: DeadLetters, session: str) -> Refused:
    """Count the refused results of a session."""
    results = findings = seen = 0
    async for letter in letters.newest():
        seen += 1
        if seen > LETTERS_MAX:
            return Refused(results, findings, more=True)
        if letter.matches(None, session) and (count := _findings(letter)) is not None:
            results += 1
            findings += count
    return Refused(results, findings, more=False)


def _findings(letter: Letter) -> int | None:
    """Return how many findings a letter has; None if it is no result."""
    given: dict[str, Any] = {}
    for name in ("payload", "partial", "result"):
        text = letter.field(name.encode())
        try:
            value = msgspec.json.decode(text) if text else None
        except _UNREADABLE:
            continue
        if name == "payload":
            given |= value if isinstance(value, dict) else {}
        elif value is not None:
            given[name] = value
    bodies = [given[name] for name in ("partial", "result") if given.get(name) is not None]
    if not bodies:
        return None
    lists = [body.get("findings") for body in bodies if isinstance(body, dict)]
    return sum(len(one) for one in lists if isinstance(one, list))
