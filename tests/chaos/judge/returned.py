"""Returned: a signal that FLUSHALL removed is there again."""

from collections.abc import Iterator

from tests.chaos.evidence import Evidence


def judge(evidence: Evidence) -> Iterator[str]:
    """Yield each signal in the log that was acknowledged before the flush, and not sent again."""
    gone = evidence.gone()
    if not gone:
        return
    again = evidence.acknowledged()
    for session in evidence.sessions:
        for entry in evidence.log(session):
            life, number = entry.life(session), entry.count("seq")
            if number and number in gone.get(life, ()) and number not in again.get(life, ()):
                yield f"{session} {entry.id}: {life.agent}'s signal {number} of before the flush"
