"""Every error the fabric raises, in one small tree.

The message is for people: what was wrong, with what, and what to do next. For programs there are
`code`, a stable word, and `exit_code`, with which the command line ends. The branches say where to
look: at the caller, at another agent (a peer), or at the server.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar


class FabricError(Exception):
    """The fabric could not do what was asked.

    Without a message of its own, an error says the first sentence of its docstring.
    """

    code: ClassVar[str] = "FABRIC"
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (self.__class__.__doc__ or "").strip().splitlines()[0])


class CallerError(FabricError):
    """The request cannot be carried out as it was made: change it, then try again."""

    code = "CALLER"
    exit_code = 2


class SignalError(CallerError):
    """A signal is not acceptable: the message names the field, its value and what is allowed."""

    code = "SIGNAL"

    def __init__(self, code: str, field: str, given: str, allowed: str) -> None:
        self.reason_code, self.field = code, field
        self.given, self.allowed = given, allowed
        super().__init__(f"{field}: got {given}; allowed: {allowed}")


class ConfigError(CallerError):
    """A setting is missing or not usable: the message says which, and where to set it."""

    code = "CONFIG"


class TaskFileError(CallerError):
    """A list of tasks cannot be used: the message names the task, the field and what is wrong."""

    code = "TASKS"


class NotFoundError(CallerError):
    """There is no session, agent or entry of that name."""

    code = "NOT_FOUND"
    exit_code = 3


class NotAllowedError(CallerError):
    """The operation is not allowed here: the message says why, and what is."""

    code = "NOT_ALLOWED"
    exit_code = 4


class EndedError(NotAllowedError):
    """The agent's incarnation is over: it was declared dead or replaced, and is not heard any more.

    What it held and waited for is released. Start the agent again, and ask again.
    """

    code = "ENDED"


class PeerError(FabricError):
    """Another agent prevents it."""

    code = "PEER"


class HeldError(PeerError):
    """Another agent or process holds what was asked for."""

    code = "HELD"
    exit_code = 5


class NameTakenError(HeldError):
    """Another living process uses the agent's name.

    `instance` is that process, `free_name` a name that the rules offer instead, or "".
    """

    code = "NAME_TAKEN"

    def __init__(self, message: str, instance: str = "", free_name: str = "") -> None:
        super().__init__(message)
        self.instance = instance
        self.free_name = free_name


class DependencyFailedError(PeerError):
    """All producers of a dependency have failed."""

    code = "DEPENDENCY_FAILED"


class DeadlockError(PeerError):
    """A wait or a claim is refused, because the agents would wait for each other forever.

    `cycle` names them in order; each waits for the next, and the last for the first. `affected` are
    stuck behind them. Both are empty if a person has decided who gives way. Release what the others
    wait for, then ask again.
    """

    code = "DEADLOCK"
    exit_code = 5

    def __init__(
        self, reason: str, cycle: Sequence[str] = (), affected: Sequence[str] = ()
    ) -> None:
        self.cycle = tuple(cycle)
        self.affected = tuple(affected)
        shown = f" ({' → '.join([*cycle, cycle[0]])})" if cycle else ""
        super().__init__(f"{reason}{shown}: release what the others wait for, then ask again")


class BarrierError(PeerError):
    """An integration does not take place: the message says why, and who was missing."""

    code = "BARRIER"


class WaitTimeoutError(PeerError):
    """A wait ended without an answer: the message says what it was for, and on whom it depends."""

    code = "TIMEOUT"
    exit_code = 7


class ServerError(FabricError):
    """The Redis server, or the connection to it, has failed."""

    code = "SERVER"
    exit_code = 6
    #: It is certain that the request did not take effect.
    never_sent = False


class UnreachableError(ServerError):
    """The server cannot be reached, or the connection broke before its reply came.

    It is unknown whether the last request took effect, unless `never_sent` says that it did not.
    Read again before going on.
    """

    code = "UNREACHABLE"

    def __init__(self, message: str | None = None, *, never_sent: bool = False) -> None:
        super().__init__(message)
        self.never_sent = never_sent


class UnavailableError(ServerError):
    """The server refuses for now: it is loading, read-only, out of memory, or lacks replicas.

    The request took no effect, unless `took_effect` says that it did, on too few replicas.
    """

    code = "UNAVAILABLE"

    def __init__(self, message: str | None = None, *, took_effect: bool = False) -> None:
        super().__init__(message)
        self.took_effect = took_effect


class ReconnectedError(UnavailableError):
    """The connection has ended, perhaps only because it was idle: check what was read, read on.

    The new connection may lead to another server, which need not have all that was read.
    """

    code = "RECONNECTED"


class ExhaustedError(UnavailableError):
    """A stream takes no new entries, because somebody has used up its ids.

    A worker replaces it: in the ingress within seconds, elsewhere when it next writes there.
    """

    code = "EXHAUSTED"

    def __init__(self, key: str) -> None:
        self.key = key
        super().__init__(
            f"stream {key} takes no new entries: somebody has added one under an id beyond the "
            "fabric's own; an orchestrator that runs replaces the stream (its log says so)"
        )


class OverloadedError(ServerError):
    """The ingress is over its limit: wait for the orchestrator to catch up, then emit again."""

    code = "OVERLOADED"
    exit_code = 1


class UnsupportedServerError(ServerError):
    """The server lacks a command or a setting that the fabric needs."""

    code = "UNSUPPORTED"


class FencedError(ServerError):
    """A commit or renewal was refused: another worker holds the lease, or has committed first."""

    code = "FENCED"


class MissingInputError(ServerError):
    """Somebody has deleted entries of a stream after a worker read them: it reads them again."""

    code = "MISSING_INPUT"

    def __init__(self, key: str) -> None:
        super().__init__(f"somebody has deleted entries of {key} that were about to be committed")


class UnseededError(ServerError):
    """A partition's epoch is missing on the server: the partition is stopped until re-seeded."""

    code = "UNSEEDED"


class TamperedError(ServerError):
    """A key of the fabric holds something that the fabric did not write."""

    code = "TAMPERED"

    def __init__(self, key: str, found: str, expected: str) -> None:
        self.key, self.found, self.expected = key, found, expected
        if found.startswith("none"):
            super().__init__(
                f"key {key} is gone: somebody has deleted it. What is left of the session is no "
                f"whole one: `fabric purge` deletes it; its signals wait in `dead`"
            )
            return
        super().__init__(
            f"key {key} is a {found}, the fabric keeps a {expected} there: "
            f"move it away (RENAME {key} …) or delete it; the session's signals wait in `dead`"
        )


class DivergedError(ServerError):
    """A session's log differs from what the rules make of its signals.

    The message names the key, the entry, and both values.
    """

    code = "DIVERGED"
    exit_code = 1

    def __init__(self, key: str, field: str, made: str, found: str) -> None:
        self.key, self.field, self.made, self.found = key, field, made, found
        super().__init__(
            f"{key}, {field}: replay gives {made}, Redis has {found}; the log after it was not "
            "compared"
        )


class BusyError(ServerError):
    """A session changes faster than it can be read: try again when it is quieter."""

    code = "BUSY"
    exit_code = 1
