"""Every error the fabric raises, in one small tree.

A person reads the message: what was wrong, with what, and what to do next. A program reads
`code`, a stable word, or `exit_code`, which the command line ends with (design, section 7).
The branches say who is at fault: the caller, another agent (a peer), or the server.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar


class FabricError(Exception):
    """The fabric could not do what was asked."""

    code: ClassVar[str] = "FABRIC"
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (self.__class__.__doc__ or "").strip().splitlines()[0])


class CallerError(FabricError):
    """The request cannot be carried out as it was made."""

    code = "CALLER"
    exit_code = 2


class SignalError(CallerError):
    """A signal was refused: names the field, what was given and what is allowed."""

    code = "SIGNAL"

    def __init__(self, code: str, field: str, given: str, allowed: str) -> None:
        self.reason_code = code
        self.field = field
        self.given = given
        self.allowed = allowed
        super().__init__(f"{field}: got {given}; allowed: {allowed}")


class ConfigError(CallerError):
    """A setting is missing or not usable."""

    code = "CONFIG"


class NotFoundError(CallerError):
    """No session, agent or entry of that name is known."""

    code = "NOT_FOUND"
    exit_code = 3


class NotAllowedError(CallerError):
    """The operation is not allowed here."""

    code = "NOT_ALLOWED"
    exit_code = 4


class PeerError(FabricError):
    """Another agent stands in the way."""

    code = "PEER"


class HeldError(PeerError):
    """Somebody else holds what was asked for."""

    code = "HELD"
    exit_code = 5


class DependencyFailedError(PeerError):
    """The producer of a dependency has failed."""

    code = "DEPENDENCY_FAILED"


class DeadlockError(PeerError):
    """A wait, or a claim, is refused: the agents would wait for each other for ever.

    `cycle` names them in order, each waiting for the next and the last for the first; `affected`
    are stuck behind them. Both are empty when somebody has decided who gives way. Give back what
    the others wait for, then ask again.
    """

    code = "DEADLOCK"
    exit_code = 5

    def __init__(
        self, reason: str, cycle: Sequence[str] = (), affected: Sequence[str] = ()
    ) -> None:
        self.cycle = tuple(cycle)
        self.affected = tuple(affected)
        shown = f" ({' → '.join([*cycle, cycle[0]])})" if cycle else ""
        super().__init__(f"{reason}{shown}: give back what the others wait for, then ask again")


class BarrierError(PeerError):
    """An integration does not take place: says why, and who was missing."""

    code = "BARRIER"


class WaitTimeoutError(PeerError):
    """A wait ended without an answer: says what was waited for, and on whom."""

    code = "TIMEOUT"
    exit_code = 7


class ServerError(FabricError):
    """The Redis server, or the way to it, failed."""

    code = "SERVER"
    exit_code = 6


class UnreachableError(ServerError):
    """The server cannot be reached, or the connection broke before its reply came.

    Whether the last request took effect is unknown, unless `never_sent` says that it cannot have:
    load again before going on.
    """

    code = "UNREACHABLE"

    def __init__(self, message: str | None = None, *, never_sent: bool = False) -> None:
        super().__init__(message)
        self.never_sent = never_sent


class UnavailableError(ServerError):
    """The server is there and refuses for now: loading, read-only, out of memory, no replicas.

    The request took no effect, unless `took_effect` says that only what was to follow is missing.
    """

    code = "UNAVAILABLE"

    def __init__(self, message: str | None = None, *, took_effect: bool = False) -> None:
        super().__init__(message)
        self.took_effect = took_effect


class OverloadedError(ServerError):
    """The ingress is over its limit: wait for the orchestrator to catch up, then emit again."""

    code = "OVERLOADED"
    exit_code = 1


class UnsupportedServerError(ServerError):
    """The server lacks a command, or a setting, that the fabric cannot do without."""

    code = "UNSUPPORTED"


class FencedError(ServerError):
    """A commit or renewal was refused: the lease is another's, has expired, or has moved on."""

    code = "FENCED"


class UnseededError(ServerError):
    """A partition's epoch is gone from the server: it stays stopped until it is re-seeded."""

    code = "UNSEEDED"


class TamperedError(ServerError):
    """A key of the fabric holds something the fabric did not write."""

    code = "TAMPERED"

    def __init__(self, key: str, found: str, expected: str) -> None:
        self.key = key
        self.found = found
        self.expected = expected
        super().__init__(
            f"key {key} is a {found}, the fabric keeps a {expected} there: "
            f"move it away (RENAME {key} …) or delete it; the session's signals wait in `dead`"
        )


class DivergedError(ServerError):
    """A session's log is not what the rules make of its own signals: names key, entry and both."""

    code = "DIVERGED"
    exit_code = 1

    def __init__(self, key: str, field: str, made: str, found: str) -> None:
        self.key = key
        self.field = field
        self.made = made
        self.found = found
        super().__init__(
            f"{key}, {field}: replay gives {made}, Redis has {found}; what comes after it in the "
            "log was not looked at"
        )


class BusyError(ServerError):
    """A session moves on faster than it can be looked at."""

    code = "BUSY"
    exit_code = 1
