"""`fabric why` in random sessions: each waiting agent has a cause, and something to depend on."""

import random
from typing import Any

import pytest

from fabric.core.record import ENDED, AgentStatus
from fabric.core.rules import Rules
from tests.ops.logged_session import LoggedSession
from tests.support.random_history import AGENTS, EAGER, PATHS, THINGS

WAITS = {"dependency", "lock", "question", "barrier"}
QUESTIONS = ("q1", "q2")
SESSIONS = 40
SIGNALS = 30


def payload(chance: random.Random, told: LoggedSession, kind: str) -> dict[str, Any]:
    known: dict[str, dict[str, Any]] = {
        "STARTED": {"produces": chance.sample(THINGS, 2), "priority": chance.randrange(3)},
        "BLOCKED": {"on": chance.choice((*THINGS, *PATHS, *QUESTIONS))},
        "INTENT": {"writes": chance.sample(PATHS, 2), "reads": chance.sample(PATHS, 1)},
        "RELEASE": {"resources": chance.sample(PATHS, 1)},
        "CHECKPOINT_REACHED": {"checkpoint": "c"},
        "INTEGRATION_REQUIRED": {"name": chance.choice("mn")},
        "DEPENDENCY_RESOLVED": {"dependency_id": chance.choice((*THINGS, *PATHS))},
        "CONFLICT_DETECTED": {"resources": [PATHS[0]], "agents": chance.sample(AGENTS, 2)},
        "ESCALATE": {"question": "?", "id": chance.choice(QUESTIONS)},
        "DECIDED": {"decision": chance.choice((*AGENTS, "release", "start"))},
        "COMPLETED": {},
        "FAILED": {},
    }
    some = known[kind]
    if kind == "ESCALATE" and chance.random() < 0.6:
        some["to"] = chance.choice(AGENTS)
    if kind == "DECIDED":
        some["escalation"] = chance.choice([*told.session.escalations.records, "q1"])
    return some


KINDS = (
    *("STARTED", "BLOCKED", "BLOCKED", "INTENT", "INTENT", "RELEASE", "CHECKPOINT_REACHED"),
    *("INTEGRATION_REQUIRED", "DEPENDENCY_RESOLVED", "CONFLICT_DETECTED", "ESCALATE", "DECIDED"),
    *("COMPLETED", "FAILED"),
)


@pytest.mark.parametrize("seed", range(SESSIONS))
def test_every_waiting_agent_has_a_cause(seed: int) -> None:
    chance = random.Random(seed)
    told = LoggedSession(chance.choice((EAGER, Rules(), Rules(serialize_reads=True))))
    now = 0.0
    for _ in range(SIGNALS):
        now += chance.choice((0, 0.5, 1, 3))
        told.at(now)
        kind = chance.choice(KINDS)
        speaker = "HUMAN" if kind == "DECIDED" else chance.choice(AGENTS)
        told.say(speaker, kind, payload(chance, told, kind))
    for name, agent in told.session.agents.records.items():
        answer = told.explain(name)
        kinds = {cause.kind for cause in answer.causes}
        text = told.why(name)
        if agent.status in (AgentStatus.BLOCKED, AgentStatus.PAUSED):
            assert kinds & WAITS, text
            assert answer.up_to, text
        else:
            assert not kinds & WAITS, text
            assert ("end" in kinds) is (agent.status in ENDED), text
