"""`fabric tasks`: the board is filled, shown and changed; what is refused is named."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.shell import Shell

LISTED = """
[tasks.merge]
content = "Merge the reviews"
can_merge_after = ["auth", "db"]

[tasks.auth]
content = "Review auth module"
active_form = "Reviewing auth module"
priority = 2

[tasks.db]
content = "Review the schema"
blocks = ["merge"]
"""


@pytest.fixture
def person(shell: Shell) -> Shell:
    """The same shell, of a person."""
    del shell.variables["FABRIC_AGENT"]
    return shell


@pytest.fixture
def listed(tmp_path: Path) -> Callable[[str], str]:
    def write(text: str) -> str:
        path = tmp_path / "tasks.toml"
        path.write_text(text)
        return str(path)

    return write


def board(shell: Shell) -> dict[str, dict[str, object]]:
    return {task["id"]: task for task in json.loads(shell.run("tasks", "list", "--json").out)}


def test_a_list_is_loaded_worked_on_and_done(person: Shell, listed: Callable[[str], str]) -> None:
    assert person.run("tasks", "load", listed(LISTED)) == (0, "", "fabric: 3 tasks added\n")
    lines = person.run("tasks", "list").out.splitlines()
    assert [line.split()[:2] for line in lines[1:]] == [
        ["auth", "ready"], ["db", "ready"], ["merge", "pending"],
    ]  # fmt: skip
    early = person.run("emit", "STARTED(merge)", "emitter=B", "--confirm")
    assert (early.code, early.err) == (
        4,
        "fabric: refused (NOT_READY): merge comes after auth (pending), db (pending)\n",
    )
    assert person.run("emit", "STARTED(auth)", "emitter=A", "--confirm").code == 0
    second = person.run("emit", "STARTED(auth)", "emitter=B", "--confirm")
    assert (second.code, "TAKEN): A has auth" in second.err) == (4, True)
    told = person.run("inbox", "--agent", "B", "--peek").out
    assert "CANCEL" in told
    assert person.run("emit", "PROGRESS(75%)", "emitter=A", "--confirm").code == 0
    task = board(person)["auth"]
    shown = ("content", "status", "activeForm", "progress_percent", "last_signal", "agent")
    assert [task[field] for field in shown] == [
        "Review auth module", "in_progress", "Reviewing auth module", 75, "PROGRESS", "A",
    ]  # fmt: skip
    assert person.run("emit", "COMPLETED", "emitter=A", "--confirm").code == 0
    assert person.run("tasks", "done", "db", "--by", "anna").code == 0
    stranger = person.run("tasks", "done", "merge", FABRIC_AGENT="NOBODY")
    assert (stranger.code, "NOBODY is no agent of " in stranger.err) == (2, True)
    assert person.run("tasks", "list", "--ready").out.splitlines()[1].split()[:2] == [
        "merge", "ready",
    ]  # fmt: skip
    assert person.run("tasks", "retry", "auth").code == 0
    assert {name: task["status"] for name, task in board(person).items()} == {
        "auth": "pending", "db": "completed", "merge": "pending",
    }  # fmt: skip
    assert board(person)["db"]["blocks"] == ["merge"]


@pytest.mark.slow
def test_what_is_wrong_with_a_list_or_a_word_is_named(
    person: Shell, listed: Callable[[str], str]
) -> None:
    cyclic = person.run("tasks", "load", listed(LISTED + '[tasks.x]\nblocks = ["y"]\n'))
    assert (cyclic.code, "names y" in cyclic.err) == (2, True)
    assert person.run("tasks", "load", listed(LISTED)).code == 0
    again = person.run("tasks", "load", listed(LISTED))
    assert (again.code, again.err) == (2, "fabric: merge is on the board already\n")
    circle = person.run("tasks", "add", "x", "--after", "merge", "--blocks", "auth")
    assert circle.code == 4
    assert "CYCLE): auth → x → merge → auth" in circle.err
    unknown = person.run("tasks", "done", "z")
    assert (unknown.code, "UNKNOWN): there is no task z" in unknown.err) == (4, True)
    assert person.run("tasks", "add", "x", "Write", "--after", "merge").code == 0
    assert board(person)["x"]["can_merge_after"] == ["merge"]
    assert person.run("emit", "STARTED", "emitter=anna", "--confirm").code == 0
    named = person.run("tasks", "done", "x", "--by", "anna")
    assert (named.code, "name yourself with --by" in named.err) == (2, True)


def test_agents_ask_for_the_next_task(person: Shell, listed: Callable[[str], str]) -> None:
    person.run("tasks", "load", listed(LISTED))
    assert person.run("tasks", "next").code == 2
    first = person.run("tasks", "next", FABRIC_AGENT="A")
    assert first == (0, "auth\n", "")
    second = person.run("tasks", "next", "--json", FABRIC_AGENT="B", FABRIC_STREAM="S").json
    assert (second["id"], second["status"], second["token"]) == ("db", "in_progress", 2)
    third = person.run("tasks", "next", FABRIC_AGENT="C")
    assert (third.code, third.out) == (7, "")
    assert third.err.startswith("fabric: no task is ready for C that nothing is in the way of")
    person.run("tasks", "done", "db", FABRIC_AGENT="B")
    # C has said that it takes nothing more.
    assert board(person)["merge"]["status"] == "pending"
    person.run("tasks", "done", "auth", FABRIC_AGENT="A")
    assert person.run("tasks", "next", FABRIC_AGENT="C").out == "merge\n"


@pytest.mark.slow
def test_at_each_signal_the_todo_has_the_fields_of_the_seeds_example(person: Shell) -> None:
    """RESULT_STREAMING, Integration with TodoWrite: the list is loaded as it is."""
    todo = {"content": "Review auth module", "activeForm": "Reviewing auth module"}
    path = person.home / "todos.json"
    path.write_text(json.dumps([{**todo, "status": "pending"}]))
    assert person.run("tasks", "load", str(path)).code == 0
    findings = {"security issues": 2, "performance concern": 1}
    found = ["2 security issues", "1 performance concern"]
    for words, status, percent, kept in (
        (["STARTED(review-auth-module)"], "in_progress", 0, []),
        (["PROGRESS(75%)"], "in_progress", 75, []),
        (["PARTIAL_RESULT", f"partial={json.dumps(findings)}"], "in_progress", 75, found),
        (["COMPLETED"], "completed", 100, found),
    ):
        assert person.run("emit", *words, "--confirm", FABRIC_AGENT="AUDITOR").code == 0
        last = words[0].partition("(")[0]
        assert person.run("status", "--todo").json == [
            {
                **todo,
                "status": status,
                "progress_percent": percent,
                "last_signal": last,
                "partial_findings": kept,
            }
        ]
