"""`fabric synthesis` on known revisions: its output, and when it ends."""

import os
import re
import subprocess
import sys
from typing import Any

import jsonpatch
import pytest

from fabric.wire.record import dead_letter
from tests.support.folding import Folding, entry
from tests.support.servers import RunningServer
from tests.support.shell import COMMAND_SECONDS_MAX, Shell, end, is_following
from tests.support.stored_synthesis import fields
from tests.support.waiting import until


def key(shell: Shell, of: str) -> str:
    return f"{shell.variables['FABRIC_NAMESPACE']}:{{0}}:demo:{of}"


def write(shell: Shell, server: RunningServer, folding: Folding, after: int = 0) -> None:
    """Make the server hold a synthesis, as the synthesizer does; the session has a log."""
    server.cli("XADD", key(shell, "log"), "*", "kind", "signal", "type", "STARTED")
    flat = [item for pair in folding.hash.items() for item in pair]
    server.cli("HSET", key(shell, "synthesis"), *flat)
    for number in range(after + 1, len(folding.revisions) + 1):
        server.cli("XADD", key(shell, "revisions"), f"{number}-0", *fields(folding, number))


def begun() -> Folding:
    """Two agents that contradict each other: two revisions."""
    folding = Folding()
    folding.take([entry("A", 1, {"findings": [{"key": "port", "value": 1}], "n": 1})])
    folding.take([entry("B", 2, {"findings": [{"key": "port", "value": 2}], "n": 2})])
    return folding


def finish(folding: Folding) -> None:
    """They agree, and end: two more."""
    folding.take([entry("B", 3, {"findings": [{"key": "port", "value": 1}]})])
    folding.take([entry("A", 4, kind="COMPLETED"), entry("B", 5, kind="COMPLETED")])


def test_the_default_is_a_report_for_people(quiet: Shell, server: RunningServer) -> None:
    write(quiet, server, begun())
    lines = quiet.good("synthesis", "demo").lines
    assert lines[0] == "# Synthesis of demo"
    assert "## Open contradictions" in lines
    assert "To decide: `fabric decide -s demo findings:port A | B`" in lines
    assert quiet.good("synthesis", "demo", "--markdown").lines == lines
    assert quiet.good("synthesis", "-s", "demo").lines == lines


def test_json_is_the_document_that_the_patches_make(quiet: Shell, server: RunningServer) -> None:
    folding = begun()
    finish(folding)
    write(quiet, server, folding)
    assert quiet.good("synthesis", "demo", "--json").json == folding.patched()
    revisions = quiet.good("synthesis", "demo", "--patches").json_lines
    assert [one["number"] for one in revisions] == [1, 2, 3, 4]
    assert [one["is_final"] for one in revisions] == [False, False, False, True]
    assert [one["causes"] for one in revisions] == [["1-0"], ["2-0"], ["3-0"], ["4-0", "5-0"]]
    document: Any = {}
    for number, one in enumerate(revisions, 1):
        document = jsonpatch.apply_patch(document, one["patch"])
        then = quiet.good("synthesis", "demo", "--json", "--revision", str(number)).json
        assert then == document
    upto = quiet.good("synthesis", "demo", "--patches", "--revision", "2").json_lines
    assert upto == revisions[:2]
    report = quiet.good("synthesis", "demo", "--revision", "2").out
    assert "Revision 2, not final yet" in report


def test_missing_entries_are_named(quiet: Shell, server: RunningServer) -> None:
    done = quiet.run("synthesis", "other")
    assert (done.code, done.out) == (3, "")
    assert "no session other" in done.err
    write(quiet, server, begun())
    for form in ("--markdown", "--json", "--patches"):
        done = quiet.run("synthesis", "demo", "--revision", "7", form)
        assert (done.code, done.out) == (3, "")
        assert "no revision 7 of demo: the last one is 2" in done.err


def test_a_session_without_a_result_says_so(quiet: Shell, server: RunningServer) -> None:
    server.cli("XADD", key(quiet, "log"), "*", "kind", "signal", "type", "STARTED")
    assert "There is no revision yet" in quiet.good("synthesis", "demo").out
    assert quiet.good("synthesis", "demo", "--json").json == {}
    assert quiet.good("synthesis", "demo", "--patches").out == ""


@pytest.mark.parametrize("form", ["--markdown", "--json", "--patches"])
def test_following_shows_what_comes_until_it_is_final(
    quiet: Shell, server: RunningServer, form: str
) -> None:
    folding = begun()
    write(quiet, server, folding)
    following = quiet.start("synthesis", "demo", "--follow", form)
    until(lambda: is_following(server), "it waits for what is to come")
    finish(folding)
    write(quiet, server, folding, after=2)
    done = end(following)
    assert (done.code, done.err) == (0, "")
    if form == "--markdown":
        # What was there already, or comes at once, is told once.
        over = "contradiction over `document:/n`: **open**, `1` (A) or `2` (B)"
        assert re.fullmatch(r"- 1–[24] · .*", done.lines[0])
        assert [line.partition(" · ")[2] for line in done.lines].count(over) == 1
        assert re.fullmatch(r"- [13]–4 · \*\*final\*\*", done.lines[-1])
    elif form == "--json":
        assert [one["revision"] for one in done.json_lines] == [2, 3, 4]
        assert done.json_lines[-1] == folding.patched()
    else:
        assert [one["number"] for one in done.json_lines] == [1, 2, 3, 4]
    # What is final needs no waiting for.
    again = quiet.good("synthesis", "demo", "--follow", form, "--revision", "3")
    if form == "--markdown":
        assert again.lines[0].startswith("- 4 ·")
    elif form == "--json":
        assert [one["revision"] for one in again.json_lines] == [3, 4]
        now = quiet.good("synthesis", "demo", "--follow", form).json_lines
        assert [one["revision"] for one in now] == [4]
    else:
        assert [one["number"] for one in again.json_lines] == [4]


@pytest.mark.parametrize("form", ["markdown", "json", "patches", "agui"])
def test_following_can_go_on_until_it_is_refined(
    quiet: Shell, server: RunningServer, form: str
) -> None:
    folding = begun()
    finish(folding)
    write(quiet, server, folding)
    server.cli("HSET", key(quiet, "synthesis"), "refining", '{"revision":4,"refiners":["r"]}')
    following = quiet.start("synthesis", "demo", "--follow", "--until", "refined", "--format", form)
    until(lambda: is_following(server), "it waits for the refiner")
    refined = {"refiner": "r", "value": "well", "revision": 4}
    folding.take([entry("SYNTHESIZER", 6, kind="REFINED", payload=refined)])
    write(quiet, server, folding, after=4)
    done = end(following)
    assert (done.code, done.err) == (0, "")
    assert "well" in done.out
    again = quiet.good("synthesis", "demo", "--follow", "--until", "refined", "--format", form)
    assert "well" in again.out


def test_progress_is_shown_on_the_terminal_when_the_data_goes_elsewhere(
    quiet: Shell, server: RunningServer
) -> None:
    folding = begun()
    finish(folding)
    write(quiet, server, folding)
    terminal, theirs = os.openpty()
    try:
        done = subprocess.run(
            [sys.executable, "-m", "fabric.cli", "synthesis", "demo", "--follow"],
            env=quiet.environment(),
            stdout=subprocess.PIPE,
            stderr=theirs,
            timeout=COMMAND_SECONDS_MAX,
            check=True,
        )
        told = os.read(terminal, 1 << 16).decode()
    finally:
        os.close(theirs)
        os.close(terminal)
    assert done.stdout.decode().splitlines()[-1] == "- 1–4 · **final**"
    assert "\rRevision" not in done.stdout.decode()
    last = told.split("\r\x1b[K")[-1]
    assert last.startswith("Revision 4, final: 2 of 2 agents reported, 2 ended, 100 %")
    assert last.endswith("\n")


def test_keys_reads_all_that_a_synthesis_is_made_of(quiet: Shell, server: RunningServer) -> None:
    write(quiet, server, begun())
    agent = '{"status":"active","incarnation":1}'
    server.cli("HSET", key(quiet, "agents"), "A", agent)
    lines = quiet.good("keys", "demo").lines
    for of, verb in (("synthesis", "HGETALL"), ("revisions", "XRANGE"), ("said:A", "ZRANGE")):
        assert any(verb in line and key(quiet, of) in line for line in lines), of


@pytest.mark.parametrize(
    ("form", "start"),
    [
        ("pr", "<!-- signal-fabric: demo -->"),
        ("sarif", "{"),
        ("junit", "<?xml"),
        ("html", "<!doctype html>"),
        ("rdjsonl", '{"message":"bad"'),
    ],
)
def test_reports_in_the_formats_of_other_tools(
    quiet: Shell, server: RunningServer, form: str, start: str
) -> None:
    folding = Folding()
    found = {"path": "a.py", "line": 1, "rule": "r", "severity": "high", "message": "bad"}
    folding.take([entry("A", 1, {"findings": [found]})])
    write(quiet, server, folding)
    assert quiet.good("synthesis", "demo", "--format", form).out.startswith(start)
    severe = quiet.good("synthesis", "demo", "--format", form, "--min-severity", "critical").out
    assert "a.py" not in severe


def test_filters_are_for_the_formats_that_show_findings(quiet: Shell) -> None:
    for words in (
        ["--patches", "--min-severity", "high"],
        ["--json", "--group", "file"],
        ["--format", "sarif", "--max-chars", "60000"],
        ["--follow", "--since", "1"],
        ["--format", "pr", "--follow"],
        ["--until", "refined"],
    ):
        done = quiet.run("synthesis", "demo", *words)
        assert done.code == 2
        assert "--format" in done.err or "--follow" in done.err


@pytest.mark.parametrize("form", ["markdown", "pr"])
def test_a_report_counts_the_results_that_were_refused(
    quiet: Shell, server: RunningServer, form: str
) -> None:
    write(quiet, server, begun())
    payload = '{"partial":{"findings":[{"key":"a","value":1},{"key":"b","value":2}]}}'
    given = [b"session", b"demo", b"type", b"PARTIAL_RESULT", b"payload", payload.encode()]
    form_, values = dead_letter(given, "ENDED", "it has ended", "x", b"1-1")
    flat = [text for pair in zip(form_, values, strict=True) for text in pair]
    dead = f"{quiet.variables['FABRIC_NAMESPACE']}:{{0}}:dead"
    server.cli("XADD", dead, "*", *(t.decode() if isinstance(t, bytes) else t for t in flat))
    shown = quiet.good("synthesis", "demo", "--format", form).out
    assert "Not in it is 1 refused result, 2 findings in all, with the reasons in" in shown
