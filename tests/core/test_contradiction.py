"""A person is asked about contradictions once, after agents had the time to settle them."""

from __future__ import annotations

from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fabric.core import escalation
from fabric.core.event import SYNTHESIZER, Decision
from fabric.core.limits import CONTEXT_BYTES_MAX
from fabric.core.rules import Rules
from fabric.core.session import SHARE_MIN
from fabric.core.signal import SignalType
from tests.support.effort import examples
from tests.support.invariant import check_disputes
from tests.support.random_history import Play, signal

GRACE_MS = 60_000

PARTS = [f"findings:{name}" for name in "abcdef"]

#: What happens to a part after some ms: agents contradict each other, settle it, or a person
#: decides; None: a person leaves what the open digest names as it is.
Turn = tuple[int, str | None, str]

turns = st.lists(
    st.tuples(
        st.just(0) | st.integers(0, 2 * GRACE_MS),
        st.sampled_from(PARTS) | st.none(),
        st.sampled_from(["contradict", "contradict", "settle", "decide"]),
    ),
    max_size=25,
)


def contradict(play: Play, part: str, *digests: str) -> Decision:
    values = [
        {"agents": [agent], "digest": digest}
        for agent, digest in zip("AB", digests or ("1", "2"), strict=True)
    ]
    payload = {"kind": "finding", "part": part, "agents": ["A", "B"], "values": values}
    return play.say(signal(SignalType.CONFLICT_DETECTED, SYNTHESIZER, payload))


def answer(play: Play, question: str, decision: str, by: str = "ann") -> None:
    payload = {"escalation": question, "decision": decision, "by": by}
    play.say(signal(SignalType.DECIDED, by, payload))


class Digests:
    """The digests of a history: when each was asked or renewed, and what it named."""

    def __init__(self, play: Play) -> None:
        self.play = play
        self.asked: list[tuple[int, set[str]]] = []
        play.watch = self.note

    def note(self, decision: Decision, timer: str) -> None:
        for message in decision.messages:
            if message.type == SignalType.ESCALATE and timer:
                said = msgspec.json.decode(message.payload)
                named = {one["id"] for one in said["context"]["questions"]}
                self.asked.append((self.play.session.clock_ms, named))


@examples(150)
@given(turns, st.sampled_from([0, 1, GRACE_MS]))
def test_a_person_is_asked_once_about_what_lasts(history: list[Turn], grace_ms: int) -> None:
    play = Play(rules=Rules(grace_ms=grace_ms))
    digests = Digests(play)
    opened: dict[str, int] = {}  # by part, since when
    for wait_ms, part, what in history:
        before = len(digests.asked)
        play.pass_time(wait_ms)
        for at_ms, named in digests.asked[before:]:
            assert named <= opened.keys(), "nobody is asked about what is settled"
            assert all(at_ms >= opened[one] + grace_ms for one in named), "too early"
        records = play.session.escalations.records
        for one, since_ms in opened.items() if grace_ms else ():
            is_named = bool(records[one].digest)
            assert is_named or play.now_ms <= since_ms + 3 * grace_ms, "never asked"
        digest = play.session.disputes.digest
        if part is None:
            if digest:
                answer(play, digest, "leave")
        elif what == "contradict":
            opened.setdefault(part, play.now_ms)
            contradict(play, part)
        elif part in opened:
            del opened[part]
            if what == "settle":
                answer(play, part, "agreed", SYNTHESIZER)
            else:
                answer(play, part, "A")
        check_disputes(play.session)
    times = [at_ms for at_ms, _ in digests.asked]
    assert all(later - one >= grace_ms for one, later in pairwise(times))
    if not grace_ms:
        assert not times


@examples(50)
@given(st.permutations(PARTS))
def test_their_order_leaves_no_trace(order: list[str]) -> None:
    asked = []
    for parts in (PARTS, order):
        play = Play()
        digests = Digests(play)
        for part in parts:
            contradict(play, part)
        answer(play, PARTS[2], "agreed", SYNTHESIZER)
        play.pass_time(GRACE_MS)
        digest = play.session.escalations.records[play.session.disputes.digest]
        asked.append((digest.question, digest.context, digests.asked))
    assert asked[0] == asked[1]
    assert asked[0][2] == [(play.session.clock_ms, {*PARTS} - {PARTS[2]})]


def test_a_digest_has_a_bounded_size() -> None:
    play = Play()
    for number in range(300):
        contradict(play, f"findings:{number:03}" + "x" * 490)
    play.pass_time(GRACE_MS)
    digest = play.session.escalations.records[play.session.disputes.digest]
    assert digest.question.startswith("300 contradictions")
    assert len(play.session.disputes.named) == 300
    assert isinstance(digest.context, msgspec.Raw)
    assert CONTEXT_BYTES_MAX - 1_000 < len(bytes(digest.context)) <= CONTEXT_BYTES_MAX
    assert len(digest.question) < 10_000


def test_without_room_for_questions_the_log_has_them(monkeypatch: pytest.MonkeyPatch) -> None:
    most = 2 * SHARE_MIN
    monkeypatch.setattr(escalation, "SESSION_ESCALATIONS_MAX", most)
    play = Play()
    for number in range(most):
        contradict(play, f"findings:{number}")
    (asked,) = contradict(play, "findings:one-more").messages
    assert asked.type == SignalType.ESCALATE
    check_disputes(play.session)
    # Nor is there room for the digest: it is tried again, until there is.
    digests = Digests(play)
    play.pass_time(GRACE_MS)
    play.pass_time(GRACE_MS)
    assert len(digests.asked) == 2
    assert not play.session.disputes.digest
    check_disputes(play.session)
    answer(play, "findings:1", "A")
    play.pass_time(GRACE_MS)
    assert len(play.session.disputes.named) == most - 1
    check_disputes(play.session)
