"""The cost of a signal, counted in lines of code that run: a loop over all records shows."""

import sys
from types import FrameType
from typing import Any

from fabric.core.signal import Signal
from tests.support.random_history import Play


def lines_of(play: Play, one: Signal) -> int:
    """Count the lines of Python that run for a signal."""
    count = 0

    def trace(frame: FrameType, event: str, arg: Any) -> Any:
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        play.say(one)
    finally:
        sys.settrace(before)
    return count
