"""`fabric close` and `fabric open`: a run ends for all, and the next has nothing of it in force."""

import pytest

from tests.support.shell import Shell


@pytest.fixture
def person(shell: Shell) -> Shell:
    """The same shell, of a person."""
    del shell.variables["FABRIC_AGENT"]
    return shell


def emit(person: Shell, signal: str, agent: str, *more: str) -> int:
    return person.run("emit", signal, f"emitter={agent}", *more, "--confirm").code


def test_a_closed_run_refuses_and_the_next_has_nothing_of_it(person: Shell, session: str) -> None:
    assert emit(person, "STARTED", "A", 'produces=["schema"]') == 0
    assert emit(person, "DEPENDENCY_RESOLVED(schema)", "A") == 0
    assert emit(person, "STARTED", "B") == 0
    closed = person.run("close", "--by", "eva", "--reason", "the sprint is over")
    assert (closed.code, closed.out) == (0, f"run 1 of {session} is closed; A, B told\n")
    inbox = person.run("inbox", "--agent", "B").out
    assert f"eva has closed run 1 of {session}: the sprint is over" in inbox
    late = person.run("emit", "PROGRESS(50%)", "emitter=B", "--confirm")
    assert late.code == 4
    assert f"refused (CLOSED): eva has closed run 1 of {session}" in late.err
    assert "CLOSED" in person.run("inbox", "--agent", "B").out
    again = person.run("close", "--by", "eva")
    assert (again.code, "(CLOSED)" in again.err) == (4, True)

    opened = person.run("open", "--by", "eva")
    assert (opened.code, opened.out) == (0, f"run 2 of {session} is open\n")
    assert person.run("status", "--json").json["agents"] == {}
    assert emit(person, "STARTED", "A") == 0
    assert emit(person, "BLOCKED(schema)", "A") == 0
    assert person.run("status", "--json").json["agents"]["A"]["status"] == "blocked"
    assert person.run("replay").code == 0


def test_only_what_is_closed_is_opened_and_only_what_is_there_closed(
    person: Shell, session: str
) -> None:
    assert person.run("close", "--by", "eva").code == 3
    assert person.run("open", "--by", "eva").out == f"run 1 of {session} is open\n"
    assert emit(person, "STARTED", "A") == 0
    refused = person.run("open", "--by", "eva")
    assert refused.code == 4
    assert f"(OPEN): run 1 of {session} is open: close it first" in refused.err


@pytest.mark.parametrize(
    ("more", "state"),
    [
        (("--expect", "P1,P2"), "open: P1, P2 expected"),
        ((), "open: nobody has come yet"),
    ],
)
def test_an_open_run_is_not_among_those_that_have_ended(
    person: Shell, session: str, more: tuple[str, ...], state: str
) -> None:
    person.good("open", "--by", "eva", *more)
    ended = person.run("purge", "--ended", "--json").json["sessions"]
    assert session not in [one["name"] for one in ended]
    assert state in person.run("purge", session, "--by", "eva").out
    refused = person.run("purge", session, "--yes", "--by", "eva")
    assert (refused.code, "(OPEN)" in refused.err) == (4, True)
    assert "close it first" in refused.err
    person.good("close", "--by", "eva")
    ended = person.run("purge", "--ended", "--json").json["sessions"]
    assert session in [one["name"] for one in ended]


@pytest.mark.parametrize("name", ["run.json.gz", "run.jsonl", "./run"])
def test_a_file_of_a_session_may_have_any_usual_name(
    person: Shell, session: str, name: str
) -> None:
    assert emit(person, "STARTED", "A") == 0
    live = person.good("replay", session).out
    assert person.run("export", session, "--out", name).code == 0
    assert person.good("replay", name).out == live


def test_a_purge_of_nothing_says_so(shell: Shell) -> None:
    done = shell.run("purge", "--ended", "--older-than", "9999d")
    assert (done.code, done.out) == (0, "")
    assert "nothing to purge: no session has ended and been idle for" in done.err
