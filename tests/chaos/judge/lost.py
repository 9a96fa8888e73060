"""Lost: an acknowledged signal is neither in the log nor among the dead letters."""

from collections import defaultdict
from collections.abc import Iterator

from tests.chaos.evidence import Evidence, Life, Numbers


def judge(evidence: Evidence) -> Iterator[str]:
    """Yield each lost signal."""
    for life, numbers in missing(evidence).items():
        for number in numbers:
            yield f"{life.session} {life.agent} incarnation {life.incarnation}: signal {number}"


def missing(evidence: Evidence) -> dict[Life, Numbers]:
    """Return every lost signal, by its sender."""
    found: dict[Life, Numbers] = defaultdict(Numbers)
    for session in evidence.sessions:
        for entry in evidence.log(session):
            if entry.part == 0 and "emitter" in entry.fields:
                found[entry.life(session)].add(entry.count("seq"))
    for letter in evidence.dead():
        seq, incarnation = letter.get("raw.seq", ""), letter.get("raw.incarnation", "")
        if seq.isdecimal() and incarnation.isdecimal():
            session, agent = letter.get("raw.session", ""), letter.get("raw.emitter", "")
            found[Life(session, agent, int(incarnation))].add(int(seq))
    lost: dict[Life, Numbers] = {}
    for life, numbers in evidence.acknowledged().items():
        for number in numbers:
            if number not in found[life]:
                lost.setdefault(life, Numbers()).add(number)
    return lost
