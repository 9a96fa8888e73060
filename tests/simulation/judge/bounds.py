"""Every queue is bounded."""

from __future__ import annotations

from collections.abc import Sequence

from tests.simulation.judge.judge import NAMESPACE, Commit, Judge, Violation

#: Entries over the limit: those of one emit, and those that intruders add.
EMIT_MAX = 40

#: Arguments of one commit: the size that the workers promise, and one more input's.
COMMIT_BYTES_MAX = 8 * 2**20


class Bounds(Judge):
    """Checks the length of the streams that workers read, and the size of commits."""

    def __init__(self, ingress_max: int) -> None:
        self._most = ingress_max + EMIT_MAX

    def emitted(self, key: str, ids: Sequence[bytes], length: int) -> None:
        """See Judge."""
        is_ingress = key.endswith(":signals") and key.startswith(NAMESPACE.name)
        if is_ingress and length > self._most:
            raise Violation("every queue is bounded", f"{key} holds {length} entries")

    def committed(self, commit: Commit) -> None:
        """See Judge."""
        size = sum(len(value) for _, _, args in commit.written for value in args)
        size += sum(len(v) for _, _, fields in commit.appended for v in fields.values())
        if size > COMMIT_BYTES_MAX:
            raise Violation("commits are bounded", f"{commit.partition}: {size} bytes")
