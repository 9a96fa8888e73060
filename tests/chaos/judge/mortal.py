"""Mortal: a session that was deleted left something behind, or handed out again what it had."""

from collections.abc import Iterator

from tests.chaos.evidence import Evidence
from tests.chaos.journal import lines
from tests.chaos.roster import MORTAL


def judge(evidence: Evidence) -> Iterator[str]:
    """Yield what the process that lets sessions end has noted."""
    path = evidence.directory / f"{MORTAL}.jsonl"
    for line in lines(path) if path.exists() else ():
        if line["what"] == "wrong":
            yield line["text"]
