"""Twice: a signal took effect more than once."""

from collections import defaultdict
from collections.abc import Iterator

from tests.chaos.evidence import Evidence, Life, Numbers


def judge(evidence: Evidence) -> Iterator[str]:
    """Yield each entry that repeats an earlier one."""
    for session in evidence.sessions:
        found: dict[Life, Numbers] = defaultdict(Numbers)
        for entry in evidence.log(session):
            number = entry.count("seq")
            if entry.is_signal and number:
                known = found[entry.life(session)]
                if number in known:
                    yield f"{session} {entry.id}: {entry.fields['emitter']}'s signal {number} again"
                known.add(number)
