"""What is said of ends: what was only inferred, who was told to stop, who is expected."""

import pytest

from fabric.core.policy import FailFast
from fabric.core.rules import Rules
from fabric.errors import NotFoundError
from fabric.ops.replay import Replay
from tests.ops.logged_session import KEYS, LoggedSession


def test_a_log_of_an_earlier_version_does_not_mark_what_was_inferred() -> None:
    session = LoggedSession()
    session.say("P", "STARTED", {"produces": ["client"]})
    session.say("W", "BLOCKED", {"on": "client"})
    session.say("P", "COMPLETED")
    session.say("V", "BLOCKED", {"on": "client"})
    mark = b',"inferred":true}'
    assert sum(item.endswith(mark) for _, flat in session.entries for item in flat) == 2
    replay = Replay(KEYS)
    for entry_id, flat in session.entries:
        bare = [item.replace(mark, b"}") for item in flat]
        assert replay.take((entry_id, bare))
    replay.finish()
    dependency = replay.session.dependencies.get("client")
    assert dependency is not None
    assert (dependency.resolved_by, dependency.inferred) == ("P", False)
    assert not any(item.endswith(mark) for _, _, flat in replay.delivered for item in flat)


def test_why_names_who_is_expected_and_who_waits_for_it() -> None:
    session = LoggedSession()
    session.say("eva", "RUN_OPENED", {"expect": ["A", "B"], "deadline_ms": 60_000})
    session.say("L", "STARTED")
    session.say("A", "STARTED")
    session.say("L", "INTEGRATION_REQUIRED", {"name": "release"})
    session.say("A", "CHECKPOINT_REACHED", {"checkpoint": "c"})
    session.says("B", "B is expected until 1:00 and has not come yet", "→ its first signal ends")
    session.says("B", "the barrier release waits for it too")
    session.says("A", "missing: B", "B has not arrived. It is expected until 1:00")
    session.says("L", "It depends on B, which is expected and has not come")
    session.at(61)
    session.says(
        "B", "B was expected until 1:00 and has not come", "nobody waits for it any longer"
    )
    with pytest.raises(NotFoundError):
        session.why("C")


def test_why_says_who_is_to_stop_and_what_an_agent_that_ended_still_waited_for() -> None:
    session = LoggedSession(Rules(fail_fast=FailFast.CANCEL))
    session.say("A", "STARTED", {"parallel_group": "g"})
    session.say("P", "STARTED", {"parallel_group": "g", "produces": ["schema"]})
    session.say("W", "BLOCKED", {"on": "schema"})
    session.say("A", "FAILED", {"error": "no disk"})
    session.says("P", "P is cancelling")
    session.says("W", "It is cancelling", "P, which is to produce schema, was told")
    session.say("W", "COMPLETED")
    session.says("W", "it was still waiting for schema")
