"""Every check finds its anomaly, in the evidence of a run that was corrupted in one place."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.checker import JUDGES, check
from tests.chaos.sample_run import ADA, BOB, SESSION, SampleRun

Spoil = Callable[[SampleRun], None]


def line(history: SampleRun, agent: str, what: str, number: int = 0) -> dict[str, Any]:
    """Return the n-th line of a kind in an agent's record."""
    return [one for one in history.records[agent] if one["what"] == what][number]


def lose(history: SampleRun) -> None:
    del history.streams["log"]["8-0"]


def repeat(history: SampleRun) -> None:
    history.streams["log"]["15-0"] = history.streams["log"]["12-0"]


def flush(history: SampleRun) -> None:
    """As if FLUSHALL had run just after bob's BLOCKED."""
    at = line(history, BOB, "waited", 1)["at"]
    history.faults += [{"what": "flushing", "at": at}, {"what": "flushed", "at": at + 0.5}]


def swap(history: SampleRun) -> None:
    log = history.streams["log"]
    log["12-0"], log["14-0"] = log["14-0"], log["12-0"]


def alter(history: SampleRun) -> None:
    history.streams["log"]["12-0"]["payload"] = '{"on": "out/ada/2"}'


def reuse_token(history: SampleRun) -> None:
    history.streams["log"]["7-1"]["payload"] = '{"resources": ["src/a.py"], "token": 1}'


def hold_too_long(history: SampleRun) -> None:
    line(history, ADA, "releases")["at"] = line(history, BOB, "holds")["at"] + 1


def pass_a_barrier(history: SampleRun) -> None:
    line(history, BOB, "turn", 1)["at"] = line(history, ADA, "opened")["at"] + 0.5


def leave_a_key(history: SampleRun) -> None:
    history.wrong.append("mortal-0-1-0, life 1: ['fabric:{0}:mortal-0-1-0:log'] are left")


def lose_a_message(history: SampleRun) -> None:
    del history.streams["inbox/bob"]["12-1"]


def invent_a_message(history: SampleRun) -> None:
    history.streams["inbox/bob"]["12-2"] = dict(history.streams["inbox/bob"]["12-1"])


def miss_a_message(history: SampleRun) -> None:
    history.records[BOB].remove(line(history, BOB, "received", 0))


def lose_what_was_read(history: SampleRun) -> None:
    history.note(BOB, "received", where="inbox", ids=["12-9"])


def wait_for_ever(history: SampleRun) -> None:
    history.records[BOB].remove(line(history, BOB, "waited", 1))


def leave_a_claim(history: SampleRun) -> None:
    history.hashes["claims"]["3:ada"] = {"state": "waiting"}


def diverge(history: SampleRun) -> None:
    history.replay[SESSION].append("agents ada percent: 10, Redis has 20")


def miss_a_finding(history: SampleRun) -> None:
    history.hashes["synthesis"]["findings:port"]["value"] = 6379


def count_a_result_twice(history: SampleRun) -> None:
    history.streams["revisions"]["1-0"]["causes"] += " 6-0"


def skip_a_revision(history: SampleRun) -> None:
    history.streams["revisions"]["3-0"] = history.streams["revisions"].pop("1-0")


def leave_the_ingress(history: SampleRun) -> None:
    history.left = 3


def trim_too_early(history: SampleRun) -> None:
    history.committed = "13-0"


def have_an_outage(history: SampleRun) -> None:
    history.faults.append({"what": "outage", "at": 1.0})
    history.streams["log"]["8-1"] = {"kind": "derived", "type": "OUTAGE", "outage_ms": "90000"}


def do_not_notice_the_outage(history: SampleRun) -> None:
    have_an_outage(history)
    del history.streams["log"]["8-1"]


def give_up_a_survivor(history: SampleRun) -> None:
    have_an_outage(history)
    history.streams["log"]["9-2"] = {"kind": "derived", "type": "FAILED", "to": "", "from": ADA}


def ask_about_an_outage(history: SampleRun) -> None:
    have_an_outage(history)
    asked = {"state": "decided", "subject": "mass_silence", "question": "Wait for them?"}
    history.hashes["escalations"]["9-2"] = asked


SPOILT: list[tuple[str, Spoil]] = [
    ("lost", lose),
    ("twice", repeat),
    ("returned", flush),
    ("order", swap),
    ("altered", alter),
    ("tokens", reuse_token),
    ("two holders", hold_too_long),
    ("barriers", pass_a_barrier),
    ("messages", lose_a_message),
    ("messages", invent_a_message),
    ("received", miss_a_message),
    ("vanished", lose_what_was_read),
    ("mortal", leave_a_key),
    ("left waiting", wait_for_ever),
    ("left waiting", leave_a_claim),
    ("given up", do_not_notice_the_outage),
    ("given up", give_up_a_survivor),
    ("given up", ask_about_an_outage),
    ("replayed", diverge),
    ("synthesis", miss_a_finding),
    ("synthesis", count_a_result_twice),
    ("synthesis", skip_a_revision),
    ("drained", leave_the_ingress),
    ("drained", trim_too_early),
]


def found(history: SampleRun) -> dict[str, list[str]]:
    return {name: anomalies for name, anomalies in check(history.evidence()).items() if anomalies}


def test_nothing_is_found_in_a_history_that_is_right(tmp_path: Path) -> None:
    assert found(SampleRun(tmp_path)) == {}


def test_nothing_is_found_in_an_outage_that_all_outlive(tmp_path: Path) -> None:
    history = SampleRun(tmp_path)
    have_an_outage(history)
    assert found(history) == {}


@pytest.mark.parametrize(
    ("judgement", "spoil"), SPOILT, ids=lambda one: getattr(one, "__name__", one)
)
def test_what_is_spoilt_is_found(tmp_path: Path, judgement: str, spoil: Spoil) -> None:
    history = SampleRun(tmp_path)
    spoil(history)
    assert judgement in found(history)


def test_every_judgement_has_a_history_that_it_finds() -> None:
    assert {judgement for judgement, _ in SPOILT} == set(JUDGES)


def test_what_a_flush_has_lost_is_not_missed(tmp_path: Path) -> None:
    history = SampleRun(tmp_path)
    flush(history)
    for entry_id in [one for one in history.streams["log"] if int(one.split("-")[0]) < 13]:
        del history.streams["log"][entry_id]
    assert not {"lost", "returned"} & set(found(history))


def test_what_was_refused_is_not_lost(tmp_path: Path) -> None:
    history = SampleRun(tmp_path)
    letter = history.streams["log"].pop("8-0")
    history.dead.append({f"raw.{name}": value for name, value in letter.items()})
    assert "lost" not in found(history)


def test_a_holder_that_was_given_up_for_dead_may_not_know_yet(tmp_path: Path) -> None:
    history = SampleRun(tmp_path)
    hold_too_long(history)
    gone = {"kind": "derived", "type": "FAILED", "to": "", "from": ADA, "cause": "5-0"}
    history.streams["log"]["5-0"] = {"kind": "derived", "type": "TIMER"}
    history.streams["log"]["5-1"] = gone
    assert found(history) == {}


def test_who_was_not_to_be_met_at_a_barrier_may_go_on(tmp_path: Path) -> None:
    history = SampleRun(tmp_path)
    pass_a_barrier(history)
    history.streams["log"]["9-1"]["payload"] = '{"barrier": "gate", "members": []}'
    assert "barriers" not in found(history)


def test_a_line_that_was_cut_short_by_a_kill_is_left_out(tmp_path: Path) -> None:
    history = SampleRun(tmp_path)
    evidence = history.evidence()
    for _, _, path in evidence.records():
        path.write_text(path.read_text() + '{"what": "turn", "at"')
    assert not any(check(evidence).values())
