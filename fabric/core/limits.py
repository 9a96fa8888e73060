"""Every bound on what an agent may send and on what a session may hold, with unit and reason."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from msgspec import Meta

#: Characters in the name of a session, agent, stream, task or dependency. Names become parts of
#: key names and table rows: long enough for a path, short enough to read.
NAME_CHARS_MAX = 512

#: Bytes of one payload. An inbox, a log and `results` each keep a copy: large results belong in a
#: file or a blob, the signal carries the location.
PAYLOAD_BYTES_MAX = 1_048_576

#: Levels of nesting in a payload. A parser's stack is the reason; 64 is beyond any real document.
PAYLOAD_DEPTH_MAX = 64

#: Longest chain of replies that rules may allow, and the most `hops` of a signal: each hop is a
#: signal, so a chain this long is a loop.
HOPS_MAX = 1_000

#: Fields of one ingress entry. The envelope has 12; the flat spelling adds a payload's own.
ENTRY_FIELDS_MAX = 64

#: Bytes of one envelope field other than the payload (a traceparent has 55, a signature some 500).
FIELD_BYTES_MAX = 4_096

#: Items in one list of a payload (reads, writes, produces, consumers, resources).
LIST_ITEMS_MAX = 1_000

#: Largest sequence number and incarnation: what Lua and every reader of JSON can count exactly.
COUNTER_MAX = 2**53 - 1

#: Incarnations that may be left out between two that are heard: handed out to processes that did
#: not get to speak. A supervisor that starts one a second needs eleven days for so many.
INCARNATIONS_SKIPPED_MAX = 1_000_000

#: Sequence numbers that may be left out between two that are heard: signals that the sender gave up
#: on, in an outage say. At one every 40 seconds that is four days.
SEQUENCE_SKIPPED_MAX = 10_000

#: Ranges of skipped numbers that an agent's record keeps, the latest ones: more would be an attack.
SKIPPED_RANGES_MAX = 16

#: Checkpoints of an incarnation that the next one can go on from, the last ones passed. Of each
#: finding the last statement before each of them is kept.
CHECKPOINTS_KEPT_MAX = 4

#: How long all agents of a run must have ended before it counts as over, ms: a script that starts
#: them one after the other needs less between two, and people do not notice a longer run. A run
#: with a roster is over at once.
SETTLE_MS = 1_000

#: Agents in one session: more than the 5,000 of the largest fleet we know. It bounds the memory.
SESSION_AGENTS_MAX = 20_000

#: Dependencies in one session, declared, awaited or resolved.
SESSION_DEPENDENCIES_MAX = 50_000

#: Tasks in one session, done or not.
SESSION_TASKS_MAX = 50_000

#: Dependencies that one agent may wait for at a time.
AGENT_WAITS_MAX = 1_000

#: Tasks that one signal may add; `fabric tasks load` sends a larger list in several signals.
SIGNAL_TASKS_MAX = 1_000

#: Characters of a task's `content` and `description`: the session's state has every task in memory,
#: so a longer text belongs in a file that the task names.
TASK_CONTENT_CHARS_MAX = 1_000
TASK_DESCRIPTION_CHARS_MAX = 4_000

#: Length of the pause for a quota whose report gives none, ms: many limits are per minute.
QUOTA_PAUSE_MS = 60_000

#: Tasks that one agent is offered at a time: more it could not look at before the offers end.
AGENT_OFFERS_MAX = 100

#: Highest number of a terminal, as todo lists count them.
TERMINAL_MAX = 10

#: Findings that a task keeps as one-line summaries (`partial_findings`).
TASK_FINDINGS_MAX = 20

#: Characters of one such summary.
TASK_FINDING_CHARS_MAX = 160

#: Milliseconds ahead that an expected end may lie: 10 years. Beyond that the rate says nothing.
ETA_MS_MAX = 10 * 365 * 86_400_000

#: Names listed in one sentence; the number of the others follows them.
NAMES_SHOWN_MAX = 10

#: Percent: the synthesizer is told each time an agent's percentage passes a multiple of this, also
#: by a PROGRESS without a partial result. At most ten results an agent.
PERCENT_STEP = 10

#: Claims on resources in one session, held and waiting.
SESSION_CLAIMS_MAX = 50_000

#: Resources in use in one session: named by claims that hold them, wait for them or only read them.
SESSION_RESOURCES_MAX = 200_000

#: Resources that one agent's claims may name in all. They are given back in one event: its end.
AGENT_RESOURCES_MAX = 10_000

#: Steps of comparing the resources of one signal with those in use, and of walking the queues that
#: it meets there. Some 0.1 s at most: far less than a lease, and it is done once or twice a signal.
SIGNAL_STEPS_MAX = 100_000

#: So many steps count as one more signal in its sender's rate: both are some 0.1 ms of work.
STEPS_PER_SIGNAL = 200

#: Resources granted in one event; the rest follows in events of their own. Each is a lock to write.
EVENT_GRANTS_MAX = 5_000

#: Deadlocks broken in one event: each takes a claim from an agent. A timer looks for the rest.
CYCLES_MAX = 100

#: Steps of the searches for deadlocks in one event: edges of the wait-for graph, and places in
#: queues; some 0.1 s. A timer looks for the rest. A wait whose search alone takes more is refused.
SEARCH_STEPS_MAX = 100_000

#: Retired agents that a session remembers, to refuse those that come back: as many as may work.
SESSION_RETIRED_MAX = SESSION_AGENTS_MAX

#: Questions in one session, open and decided.
SESSION_ESCALATIONS_MAX = 10_000

#: Barriers by name that one agent may have called; it may call one of them again.
AGENT_BARRIERS_MAX = 100

#: Barriers by name in one session.
SESSION_BARRIERS_MAX = 1_000

#: Bytes of a question's context that its record keeps; a longer one is in the log only.
CONTEXT_BYTES_MAX = 16_384

#: Intervals between signals that make an agent's rhythm: their median.
RHYTHM_INTERVALS = 9

#: With fewer intervals there is no rhythm yet.
RHYTHM_INTERVALS_MIN = 3

#: An agent hears of its refused signals at most once in this time, ms: a storm of signals must not
#: make a storm of notices. The dead-letter stream has them all.
NOTICE_PAUSE_MS = 1_000

#: Values of one partial result: findings, places of its document, items of its lists. One commit
#: holds them all, each with its record, its place in an index and its share of the patch.
PARTIAL_PARTS_MAX = 2_000

#: Parts of one session's synthesis. Some hundred megabytes of Redis, which keeps a patch of each.
SESSION_PARTS_MAX = 1_000_000

#: Parts of a synthesis that one commit merges anew after an agent has started again.
SWEEP_PARTS = 500

#: Different values of a contradiction in a message or question; the synthesis has them all.
VALUES_SENT_MAX = 10

#: Bytes of such a value in a message; a longer one is replaced by its digest.
VALUE_SENT_BYTES_MAX = 1_000

#: Characters of such a value in the question to a person.
VALUE_SHOWN_CHARS_MAX = 60


#: No control characters: names become parts of keys, tables and terminal output.
#: Keys of findings that one signal joins.
SAME_KEYS_MAX = 100

Name = Annotated[
    str, Meta(min_length=1, max_length=NAME_CHARS_MAX, pattern=r"^(?![\s\S]*[\x00-\x1f\x7f-\x9f])")
]
Names = Annotated[list[Name], Meta(max_length=LIST_ITEMS_MAX)]
#: A name that may be left out, as "".
Label = Annotated[str, Meta(max_length=NAME_CHARS_MAX, pattern=r"^(?![\s\S]*[\x00-\x1f\x7f-\x9f])")]
Percent = Annotated[int, Meta(ge=0, le=100)] | Annotated[float, Meta(ge=0, le=100)]
Share = Annotated[float, Meta(ge=0, le=1)]
Count = Annotated[int, Meta(ge=0, le=COUNTER_MAX)]
#: Any whole number that every reader can count exactly.
Whole = Annotated[int, Meta(ge=-COUNTER_MAX, le=COUNTER_MAX)]
Milliseconds = Count
#: Time from now to a deadline, ms: at most a year, as in the rule file.
Deadline = Annotated[int, Meta(ge=1, le=365 * 86_400_000)]


def listed(names: Sequence[str], most: int = NAMES_SHOWN_MAX) -> str:
    """Return names as one text; of very many the first ones: `A, B and 3 more`."""
    shown = ", ".join(names[:most])
    more = len(names) - most
    return f"{shown} and {more} more" if more > 0 else shown
