"""Agents receive every message that is sent to them at least once, in order."""

from __future__ import annotations

from collections.abc import Sequence

from fabric.store.value import parse_id
from tests.simulation.judge.judge import Violation

#: A message: its id, cause and type.
Message = tuple[bytes, bytes, bytes]

#: One life of an agent: where it began to read, and the messages that it read.
Life = tuple[bytes, Sequence[Message]]


def check_heard(who: str, lives: Sequence[Life], sent: Sequence[Message]) -> None:
    """Compare what the lives of an agent read from a stream with what the stream holds.

    Nothing may be left out: a life begins after what was read before it, and reads without a gap.
    """
    place = {message: number for number, message in enumerate(sent)}
    taken = -1
    for began, shown in lives:
        if not shown:
            continue
        numbers = [place.get(message, -1) for message in shown]
        if -1 in numbers:
            raise Violation("messages are what was sent", f"{who}: {shown[numbers.index(-1)]}")
        if numbers != list(range(numbers[0], numbers[0] + len(numbers))):
            raise Violation("messages come once each, in order", f"{who}: {shown}")
        before = sum(parse_id(entry_id) <= parse_id(began) for entry_id, _, _ in sent)
        if numbers[0] != before:
            raise Violation("no message is passed over", f"{who}: from {began!r} to {shown[0]}")
        if before > taken + 1:
            raise Violation(
                "every message comes at least once",
                f"{who}: message {taken + 1} of {len(sent)} was never shown",
            )
        taken = max(taken, numbers[-1])


def check_all_shown(who: str, lives: Sequence[Life], sent: Sequence[Message]) -> None:
    """Check the same for a server that went back: its final messages were read, up to the last.

    Messages that it has lost may have been read too, under ids that others have now.
    """
    shown = {message for _, messages in lives for message in messages}
    upto = max((number for number, one in enumerate(sent) if one in shown), default=-1)
    missed = [one for one in sent[: upto + 1] if one not in shown]
    if missed:
        raise Violation("no message is passed over", f"{who}: {missed[0]} was never shown")
