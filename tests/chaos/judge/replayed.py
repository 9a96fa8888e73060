"""Replayed: `fabric replay` of each session's log gives what Redis holds, key for key."""

from collections.abc import Iterator

from tests.chaos.evidence import Evidence


def judge(evidence: Evidence) -> Iterator[str]:
    """Yield each difference."""
    for session, differences in evidence.replay.items():
        yield from (f"{session}: {one}" for one in differences)
