"""Measures the recovery after a fault, with a signal in every partition, sent past the proxies.

It measures two times: until the runner's signal has its directive in every partition, and until all
signals that were waiting at the end of the fault are committed.
"""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from fabric.store.keys import ORCHESTRATORS, SYNTHESIZERS, Namespace
from fabric.store.value import parse_id
from tests.chaos.deployment import UNREACHABLE, Deployment
from tests.chaos.journal import now_ms
from tests.chaos.roster import PARTITIONS, PROBE_SESSIONS

#: Time between two looks, s: the precision of the measurement.
POLL_S = 0.01
#: Time after which a signal without an answer is sent again, ms: it may be lost.
AGAIN_MS = 1_000
#: Longest recovery, ms.
RECOVERY_MS_MAX = 60_000

NAMESPACE = Namespace()


class NotRecoveredError(Exception):
    """The fabric did not recover in time; says which partitions are not served."""


@dataclass(frozen=True)
class Recovery:
    """Times after a fault, ms: until all partitions answered, and until the backlog was empty."""

    answer_ms: float
    backlog_ms: float


@dataclass
class _Partition:
    """One partition, as the probe sees it."""

    number: int
    asked_ms: float = 0.0
    is_answered: bool = False
    #: Group → newest entry that was waiting at the end of the fault; removed once it is committed.
    waiting: dict[str, str] = field(default_factory=dict)


class Probe:
    """Sends the runner's signals and waits for the answers."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        self._seq = [0] * PARTITIONS
        self._incarnation = 0

    def recovery(self) -> Recovery:
        """Wait until everything works again; return the times. Raises NotRecoveredError."""
        began = now_ms()
        self._incarnation += 1
        self._seq = [0] * PARTITIONS
        partitions = [_Partition(number) for number in range(PARTITIONS)]
        for one in partitions:
            _retry(began, partial(self._note_waiting, one))
        answer_ms = backlog_ms = 0.0
        while not (answer_ms and backlog_ms):
            if now_ms() - began > RECOVERY_MS_MAX:
                raise NotRecoveredError(f"not served after {RECOVERY_MS_MAX} ms: {partitions}")
            for one in partitions:
                try:
                    self._look(one)
                except UNREACHABLE:
                    continue
            if not answer_ms and all(one.is_answered for one in partitions):
                answer_ms = now_ms() - began
            if not backlog_ms and not any(one.waiting for one in partitions):
                backlog_ms = now_ms() - began
            time.sleep(POLL_S)
        return Recovery(answer_ms, backlog_ms)

    def _note_waiting(self, one: _Partition) -> None:
        names = NAMESPACE.partition(one.number)
        for group in (ORCHESTRATORS, SYNTHESIZERS):
            source = names.source(group)
            newest = self._deployment.ask(source, "XREVRANGE", source, "+", "-", "COUNT", 1)
            if newest:
                one.waiting[group] = newest[0][0]

    def _look(self, one: _Partition) -> None:
        names = NAMESPACE.partition(one.number)
        for group, upto in list(one.waiting.items()):
            lease = names.lease(group)
            committed = self._deployment.ask(lease, "HGET", lease, "committed")
            if committed and parse_id(committed.encode()) >= parse_id(upto.encode()):
                del one.waiting[group]
        if one.is_answered:
            return
        keys = names.session(PROBE_SESSIONS[one.number])
        name = f"probe-{self._incarnation}"
        if now_ms() - one.asked_ms > AGAIN_MS:
            one.asked_ms = now_ms()
            self._seq[one.number] += 1
            self._deployment.ask(
                names.signals, "XADD", names.signals, "*", "session", keys.name,
                "type", "INTENT", "emitter", name, "seq", self._seq[one.number],
                "incarnation", 1, "payload", json.dumps({"writes": [f"of/{name}"]}),
            )  # fmt: skip
        inbox = keys.inbox(name)
        found = self._deployment.ask(inbox, "XRANGE", inbox, "-", "+", "COUNT", 1)
        one.is_answered = bool(found)


def _retry(began: float, work: Callable[[], None]) -> None:
    while True:
        try:
            work()
        except UNREACHABLE:
            if now_ms() - began > RECOVERY_MS_MAX:
                raise NotRecoveredError("the server did not come back") from None
            time.sleep(POLL_S)
            continue
        return
