"""The writes that the orchestrator makes for a batch of the workload, without deciding anything.

Everything that the rules would decide is known in advance: a signal's type says which entries it
causes, its emitter says for whom. Records are constants of the same size as ours.
"""

from __future__ import annotations

from benchmarks import workload
from benchmarks.connection import Argument
from benchmarks.workload import AGENTS, DEPENDENCY_AT, KEYS, PERCENT_AT, SESSIONS
from fabric.core.limits import PERCENT_STEP
from fabric.core.rules import Rules
from fabric.store.keys import ORCHESTRATORS
from fabric.wire.record import rules_digest, rules_document

#: An input entry as the server returns it: id, flat fields.
Entry = tuple[bytes, list[bytes]]

#: The twin's lease never expires.
_EXPIRES = b"9999999999999"

_CLOCK = b"1700000000000"

#: The rules of benchmarks/fabric.toml: each session's log begins with them, as they are not the
#: defaults.
_RULES = rules_document(Rules(signals_per_second_max=0))
_DIGEST = rules_digest(_RULES)

_FINDING = "src/file-00000000.py: an import that nothing in the file uses"


def _agent_record(number: int, mixed: bool) -> bytes:
    about = (
        '"percent":50.0,"eta_ms":1700000000000,"checkpoint":"issues_found",'
        f'"next_checkpoint":"recommendations_drafted","task":"review-{number:02d}",'
        f'"task_type":"Code Review","reads":["src/{number}"]'
    )
    last = "PROGRESS" if mixed else "DEPENDENCY_RESOLVED"
    return (
        f'{{"status":"active","incarnation":1,"stream":"{workload.stream_of(number)}","seq":2000,'
        f'"signals":2000,"last_signal":"{last}","started_ms":1700000000000,'
        f'"seen_ms":1700000000000{"," + about if mixed else ""},'
        '"intervals":[50,50,50,50,50,50,50,50,50]}'
    ).encode()


def _task_record(number: int) -> bytes:
    findings = ",".join([f'"{_FINDING}"'] * 20)
    return (
        f'{{"content":"review-{number:02d}","status":"in_progress",'
        f'"agent":"{workload.agent(number)}","stream":"{workload.stream_of(number)}",'
        '"progress_percent":50.0,"checkpoint":"issues_found","last_signal":"PROGRESS",'
        f'"partial_findings":[{findings}]}}'
    ).encode()


def _dependency_record(number: int) -> bytes:
    return (
        '{"status":"resolved","location":"s3://builds/main/artefact/result-00000000.json",'
        f'"resolved_by":"{workload.agent(number)}"}}'
    ).encode()


class _Place:
    """What the twin knows about an agent."""

    __slots__ = (
        "dependency", "inbox", "message", "name", "percent", "record", "sender", "session", "task",
        "task_record",
    )  # fmt: skip

    def __init__(self, number: int, mixed: bool, inbox: int) -> None:
        self.session = number % SESSIONS
        self.percent = 0
        self.inbox = inbox
        self.name = workload.agent(number).encode()
        stream = workload.stream_of(number).encode()
        consumer = workload.agent(workload.consumer_of(number)).encode()
        self.sender = (b"from", self.name, b"stream", stream, b"cause")
        self.message = (
            b"kind", b"directive", b"type", b"DEPENDENCY_RESOLVED", b"to", consumer, *self.sender,
        )  # fmt: skip
        self.record = _agent_record(number, mixed)
        self.task = b"review-%02d" % number
        self.task_record = _task_record(number)
        self.dependency = _dependency_record(number)


class Writes:
    """Turns batches into arguments of `twin.lua`, and counts the log entries of each session."""

    def __init__(self, name: str) -> None:
        sessions = [KEYS.session(workload.session_of(number)) for number in range(SESSIONS)]
        self._mixed = name == "mix"
        self.keys = [keys.log for keys in sessions]
        for one in ("meta", "agents", "dependencies", "tasks"):
            self.keys += [getattr(keys, one) for keys in sessions]
        self.keys += [KEYS.results, KEYS.sessions]
        self._places: dict[bytes, _Place] = {}
        for number in range(AGENTS):
            consumer = workload.agent(workload.consumer_of(number))
            self._places[workload.agent(number).encode()] = _Place(
                number, self._mixed, len(self.keys)
            )
            self.keys.append(sessions[number % SESSIONS].inbox(consumer))
        self._logged = [0] * SESSIONS
        #: Agents without a signal so far: their first one goes to the results stream.
        self._beginners = {place.name for place in self._places.values()}

    def arguments(self, entries: list[Entry], *, acknowledge: bool, copy: bool) -> list[Argument]:
        """Return the variable arguments: counts, input ids, all writes."""
        streams: list[Argument] = []
        agents: list[dict[bytes, bytes]] = [{} for _ in range(SESSIONS)]
        tasks: list[dict[bytes, bytes]] = [{} for _ in range(SESSIONS)]
        dependencies: list[dict[bytes, bytes]] = [{} for _ in range(SESSIONS)]
        logged, places, mixed = self._logged, self._places, self._mixed
        results, beginners = 5 * SESSIONS, self._beginners
        for number, (entry_id, fields) in enumerate(entries, 1):
            place, kind, ms = places[fields[5]], fields[3], entry_id[:13]
            session = place.session
            if not logged[session]:
                logged[session] = 1
                streams += (session, 9, b"1-0", b"kind", b"rules", b"type", b"RULES")
                streams += (b"payload", _RULES, b"ms", ms)
            logged[session] += 1
            cause = b"%d-0" % logged[session]
            if copy:
                streams += (session, b"log", cause, number, ms)
            else:
                streams += (session, 19, cause, b"kind", b"signal", *fields, b"ms", ms)
            agents[session][place.name] = place.record
            if kind == b"DEPENDENCY_RESOLVED":
                follows, raw = b"%d-1" % logged[session], fields[13]
                streams += (session, 15, follows, *place.message, cause, b"ms", ms)
                if copy:
                    sender, stream = place.sender[1], place.sender[3]
                    streams += (place.inbox, b"inbox", follows, number, kind, sender, stream, cause)
                else:
                    streams += (place.inbox, 13, follows, b"type", kind, *place.sender, cause)
                    streams += (b"payload", raw, b"hops", b"1")
                dependencies[session][raw[DEPENDENCY_AT]] = place.dependency
            is_told = kind == b"PARTIAL_RESULT" or place.name in beginners
            if kind == b"PROGRESS":
                percent = int(fields[13][PERCENT_AT : fields[13].index(b",")])
                is_told = is_told or percent // PERCENT_STEP > place.percent // PERCENT_STEP
                place.percent = percent
            if is_told:
                beginners.discard(place.name)
                streams += (results, 21 if mixed else 19, b"*", *fields[:8], *fields[10:12])
                streams += (b"cause", cause, b"ms", ms, *fields[12:], b"percent", b"50")
                streams += (b"since", b"%d" % logged[session]) if mixed else ()
            if mixed and kind != b"DEPENDENCY_RESOLVED":
                tasks[session][place.task] = place.task_record
        ids = [entry_id for entry_id, _ in entries] if acknowledge else []
        first = entries[0][0] if copy else b""
        arguments: list[Argument] = [len(ids), len(streams), first, *ids, *streams]
        clocks: list[Argument] = []
        for session in range(SESSIONS):
            if agents[session]:
                arguments += (b"HSET", SESSIONS + session, 10, b"log", logged[session])
                arguments += (b"clock_ms", _CLOCK, b"opened_ms", _CLOCK)
                arguments += (b"token", b"0", b"rules", _DIGEST)
                clocks += (_CLOCK, workload.session_of(session))
            for order, changed in enumerate((agents, dependencies, tasks), 2):
                if changed[session]:
                    arguments += (b"HSET", order * SESSIONS + session, 2 * len(changed[session]))
                    for pair in changed[session].items():
                        arguments += pair
        return [*arguments, b"ZADD", results + 1, len(clocks), *clocks]

    def command(
        self,
        digest: str,
        version: int,
        entries: list[Entry],
        *,
        acknowledge: bool,
        copy: bool,
        drained: bool,
    ) -> tuple[Argument, ...]:
        """Return the whole EVALSHA that commits a batch."""
        last = entries[-1][0]
        return (
            "EVALSHA", digest, len(self.keys) + 2,
            KEYS.lease(ORCHESTRATORS), KEYS.signals, *self.keys,
            ORCHESTRATORS, last, last[:-1] + b"1", "=" if drained else "~", version, _EXPIRES,
            *self.arguments(entries, acknowledge=acknowledge, copy=copy),
        )  # fmt: skip
