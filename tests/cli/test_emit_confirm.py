"""`fabric emit --confirm`: what became of the signal, for every way in which it can end."""

import json
import os
import pty
import subprocess
import sys

import pytest

from fabric.wire.stored import fields_of
from tests.support.servers import RunningServer
from tests.support.shell import Shell, end
from tests.support.waiting import until

#: Many processes; what they show is decided in the core.
pytestmark = pytest.mark.slow

#: Seconds for a wait that is to end without a decision.
SOON = "0.5"


def log(server: RunningServer, session: str) -> dict[str, dict[str, str]]:
    found = server.cli("XRANGE", f"fabric:{{0}}:{session}:log", "-", "+")
    return {log_id: fields_of(flat) for log_id, flat in found}


def test_the_log_id_of_an_accepted_signal(
    shell: Shell, server: RunningServer, session: str
) -> None:
    shell.good("emit", "STARTED")
    assert shell.good("emit", "PROGRESS(25%)", "--confirm").out == "2-0\n"
    assert shell.good("emit", "PROGRESS(26%)", "--confirm", "-q").out == ""
    found = shell.good("emit", "PROGRESS(27%)", "--confirm", "--json").json
    ingress_id = found.pop("id")
    assert ingress_id.count("-") == 1
    assert found == {"log": "4-0", "outcome": "accepted"}
    assert json.loads(log(server, session)["4-0"]["payload"]) == {"percent": 27}


def test_a_refused_signal_fails_with_the_reason(shell: Shell) -> None:
    shell.good("emit", "COMPLETED", "--confirm")
    done = shell.run("emit", "PROGRESS(25%)", "--confirm")
    assert (done.code, done.out) == (4, "")
    assert done.err.startswith("fabric: refused (ENDED): A has completed as incarnation 1: ")
    done = shell.run("emit", "PROGRESS(25%)", "--confirm", "--json")
    assert done.code == 4
    assert done.json["outcome"] == "refused"
    assert (done.json["code"], done.json["log"]) == ("ENDED", "3-0")
    assert done.json["reason"].startswith("A has completed")


def test_a_signal_that_a_handler_refuses(shell: Shell) -> None:
    done = shell.run("emit", "DECIDED", "escalation=q", "decision=v1", "--confirm")
    assert done.code == 4
    assert (
        done.err == f"fabric: refused (UNKNOWN): there is no question q in session {name(shell)}\n"
    )


def test_a_signal_that_the_log_does_not_have(
    shell: Shell, server: RunningServer, session: str
) -> None:
    """A session with a spoilt key takes no signals: only the dead letter says so."""
    server.cli("SET", f"fabric:{{0}}:{session}:agents", "spoilt")
    done = shell.run("emit", "STARTED", "--confirm", "--json")
    assert done.code == 4
    assert (done.json["code"], done.json["log"]) == ("TAMPERED", None)
    server.cli("DEL", f"fabric:{{0}}:{session}:agents")


def test_a_repeat_has_the_answer_of_the_first(shell: Shell) -> None:
    words = ("emit", "PROGRESS(25%)", "--seq", "5", "--confirm")
    assert shell.good(*words).out == "1-0\n"
    shell.good("emit", "HEARTBEAT", "--confirm")
    done = shell.run(*words)
    assert (done.code, done.out) == (0, "1-0\n")
    assert done.err == "fabric: a repeat of 1-0: nothing has changed\n"
    again = shell.run(*words, "--json").json
    assert (again["outcome"], again["log"]) == ("repeated", "1-0")


def test_a_repeat_of_a_refused_signal_is_refused(shell: Shell) -> None:
    asked = ("question=?", "default=c", 'options=["a"]', "deadline_ms=60000")
    words = ("emit", "ESCALATE", *asked, "--seq", "5")
    assert "refused (OPTION)" in shell.run(*words, "--confirm").err
    done = shell.run(*words, "--confirm")
    assert (done.code, done.out) == (4, "")
    assert done.err.startswith("fabric: refused (OPTION): ")
    assert done.err.endswith(" (a repeat of 1-0)\n")


def test_a_number_that_another_signal_has_used(shell: Shell) -> None:
    shell.good("emit", "PROGRESS(25%)", "--seq", "5", "--confirm")
    done = shell.run("emit", "COMPLETED", "--seq", "5", "--confirm")
    assert (done.code, done.out) == (4, "")
    assert "refused (REUSED)" in done.err
    for seq, percent in (("6", "50%"), ("7", "60%")):
        shell.good("emit", f"PROGRESS({percent})", "--seq", seq, "--confirm")
    done = shell.run("emit", "PROGRESS(75%)", "--seq", "6", "--confirm")
    assert (done.code, done.out) == (4, "")
    assert "PROGRESS of A was dropped as a repeat: the last of A is 7" in done.err
    assert "3-0 has it" in done.err
    done = shell.run("emit", "COMPLETED", "--seq", "4", "--confirm")
    assert done.code == 4
    assert "refused (SKIPPED)" in done.err


def test_equal_signals_at_the_same_time_have_ids_of_their_own(shell: Shell) -> None:
    processes = [shell.start("emit", "PROGRESS(25%)", "--confirm") for _ in range(6)]
    done = [end(process) for process in processes]
    assert sorted(one.out for one in done) == [f"{number}-0\n" for number in range(1, 7)]


def test_one_of_equal_numbered_signals_is_no_repeat(shell: Shell) -> None:
    words = ("emit", "PROGRESS(25%)", "--seq", "1", "--confirm", "--json")
    done = [end(process).json for process in [shell.start(*words) for _ in range(4)]]
    assert sorted(one["outcome"] for one in done) == [
        "accepted",
        "repeated",
        "repeated",
        "repeated",
    ]
    assert {one["log"] for one in done} == {"1-0"}


def test_nobody_decides(quiet: Shell, server: RunningServer) -> None:
    done = quiet.run("emit", "STARTED", "--confirm", "--timeout", SOON)
    assert (done.code, done.out) == (7, "")
    key = f"{quiet.variables['FABRIC_NAMESPACE']}:{{0}}:signals"
    ((entry_id, _),) = server.cli("XRANGE", key, "-", "+")
    assert done.err == (
        f"fabric: STARTED of A is stored under {entry_id}, and not decided after 0.5 s: no "
        "orchestrator has handled it yet; is one running? (fabric status) It is decided as soon as "
        "one runs\n"
    )


def test_a_signal_that_the_server_has_lost(quiet: Shell, server: RunningServer) -> None:
    key = f"{quiet.variables['FABRIC_NAMESPACE']}:{{0}}:signals"
    process = quiet.start("emit", "STARTED", "--confirm")
    until(lambda: server.cli("XLEN", key) == 1)
    server.cli("DEL", key)
    done = end(process)
    assert (done.code, done.out) == (6, "")
    assert "STARTED of A is gone" in done.err


def test_a_signal_of_a_storm(quiet: Shell, server: RunningServer) -> None:
    """What is refused for its sender's rate has a dead letter of its own, and no log entry."""
    prefix = f"{quiet.variables['FABRIC_NAMESPACE']}:{{0}}"
    process = quiet.start("emit", "PROGRESS(5%)", "--confirm", "--json")
    until(lambda: server.cli("XLEN", f"{prefix}:signals") == 1)
    ((entry_id, _),) = server.cli("XRANGE", f"{prefix}:signals", "-", "+")
    for refused in ("1-1", entry_id):
        why = ("code", "RATE", "reason", f"{refused} is too much")
        origin = ("source", f"{prefix}:signals", "id", refused)
        server.cli("XADD", f"{prefix}:dead", "*", *why, *origin)
    server.cli("HSET", f"{prefix}:lease", "committed", entry_id)
    done = end(process)
    assert done.code == 4
    assert done.err == f"fabric: refused (RATE): {entry_id} is too much\n"
    assert done.json["outcome"] == "refused"


def test_a_log_that_begins_anew_meanwhile(quiet: Shell, server: RunningServer) -> None:
    """As after FLUSHALL: the place noted before sending is beyond the new log's end."""
    prefix = f"{quiet.variables['FABRIC_NAMESPACE']}:{{0}}"
    server.cli("XADD", f"{prefix}:s:log", "57-0", "kind", "signal")
    process = quiet.start("emit", "STARTED", "--confirm")
    until(lambda: server.cli("XLEN", f"{prefix}:signals") == 1)
    ((entry_id, flat),) = server.cli("XRANGE", f"{prefix}:signals", "-", "+")
    server.cli("DEL", f"{prefix}:s:log")
    server.cli("XADD", f"{prefix}:s:log", "1-0", "kind", "signal", *flat, "ms", "1")
    server.cli("HSET", f"{prefix}:lease", "committed", entry_id)
    assert end(process) == (0, "1-0\n", "")


def test_each_line_of_a_stream(shell: Shell) -> None:
    lines = "STARTED\nNONSENSE\nCOMPLETED\nHEARTBEAT\n"
    done = shell.run("emit", "-", "--confirm", given=lines)
    assert (done.code, done.lines) == (1, ["1-0", "2-0"])
    told = done.err.splitlines()
    assert told[0].startswith("fabric: line 2: ")
    assert told[1].startswith("fabric: line 4: refused (ENDED): A has completed")
    assert told[2] == "fabric: 2 sent, 2 refused"


@pytest.mark.parametrize(("words", "is_confirmed"), [((), True), (("--no-confirm",), False)])
def test_a_person_at_a_terminal_learns_the_decision(
    shell: Shell, words: tuple[str, ...], is_confirmed: bool
) -> None:
    ours, theirs = pty.openpty()
    argv = [sys.executable, "-m", "fabric.cli", "emit", "STARTED", *words]
    subprocess.run(
        argv, stdout=theirs, env=shell.environment(), cwd=shell.home, check=True, timeout=60
    )
    os.close(theirs)
    printed = os.read(ours, 100).decode().strip()
    os.close(ours)
    assert (printed == "1-0") is is_confirmed


def name(shell: Shell) -> str:
    return shell.variables["FABRIC_SESSION"]
