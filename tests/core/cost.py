"""The cost of a signal, counted in lines of code that run: a loop over all records shows."""

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

from fabric.core.signal import Signal
from tests.support.random_history import Play


def lines_of(play: Play, one: Signal) -> int:
    """Count the lines of Python that run for a signal."""
    return lines_run(play.say, one)[1]


def lines_run(call: Callable[..., Any], *given: Any) -> tuple[Any, int]:
    """Make a call; return its result, and the lines of Python that ran for it."""
    count = 0

    def trace(frame: FrameType, event: str, arg: Any) -> Any:
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        result = call(*given)
    finally:
        sys.settrace(before)
    return result, count
