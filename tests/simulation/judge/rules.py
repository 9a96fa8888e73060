"""The invariants of a session's records; the core's own tests check them too."""

from __future__ import annotations

from fabric.core.session import SessionState
from tests.simulation.judge.judge import Violation
from tests.support.invariant import check


def check_session(session: SessionState) -> None:
    """Check claims, barriers, dependencies, waits and deadlocks."""
    try:
        check(session)
    except AssertionError as error:
        frame = error.__traceback__
        while frame is not None and frame.tb_next is not None:
            frame = frame.tb_next
        where = f"{frame.tb_frame.f_code.co_name}:{frame.tb_lineno}" if frame else "?"
        raise Violation(
            "records agree with each other", f"{session.name} at {session.log}: {where} {error}"
        ) from error
