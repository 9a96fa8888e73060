"""Other rules than before: an event of the session, so that replay decides by the same ones."""

from __future__ import annotations

from fabric.core.session import Session


def adopt(session: Session, digest: str, now_ms: int) -> None:
    """Put the rules of a digest in force; "" names the defaults. Takes a log number of its own.

    `now_ms` is the server time of the event that is decided by them first.
    """
    session.tick(now_ms)
    session.log += 1
    session.rules = digest
