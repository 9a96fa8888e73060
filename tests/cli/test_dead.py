"""`fabric dead`: refused signals are kept, and can be read, sent again or deleted."""

import json
from typing import Any

import pytest

from tests.support.servers import RunningServer
from tests.support.shell import Shell
from tests.support.waiting import until


@pytest.fixture
def refused(shell: Shell, session: str, server: RunningServer) -> Shell:
    """A shell with two dead letters: A is refused as ended, and an entry has no known type."""
    shell.good("emit", "-", given="COMPLETED\nPROGRESS(5%)\n")
    server.cli("XADD", "fabric:{0}:signals", "*", "session", session, "type", "NO", "emitter", "A")
    until(lambda: len(shell.good("dead", "--json").lines) == 2)
    return shell


def letters(shell: Shell, *words: str) -> list[Any]:
    return list(shell.good("dead", *words, "--json").json_lines)


def test_letters_are_listed_the_newest_first(refused: Shell, session: str) -> None:
    newest, oldest = letters(refused)
    assert (newest["code"], oldest["code"]) == ("TYPE", "ENDED")
    assert oldest["fields"] == {
        "type": "PROGRESS",
        "session": session,
        "emitter": "A",
        "stream": "A",
        "payload": '{"percent":5}',
    }
    assert letters(refused, "list", "--code", "ENDED") == [oldest]
    lines = refused.good("dead").lines
    assert lines[0].split() == ["ID", "WHEN", "CODE", "SESSION", "EMITTER", "TYPE", "REASON"]
    assert lines[1].split()[2:6] == ["TYPE", session, "A", "NO"]
    assert lines[2].split()[2:6] == ["ENDED", session, "A", "PROGRESS"]


def test_one_page_says_that_there_is_more(refused: Shell) -> None:
    done = refused.run("dead", "list", "--count", "1")
    assert (done.code, len(done.lines)) == (0, 2)
    assert "only the newest 1 are listed" in done.err


def test_one_letter_is_shown_in_full(refused: Shell) -> None:
    letter = letters(refused)[1]
    assert refused.good("dead", "show", letter["id"], "--json").json == letter
    lines = refused.good("dead", "show", letter["id"]).lines
    assert lines[0].split() == ["id", letter["id"]]
    assert '  payload    {"percent":5}' in lines


def test_a_letter_is_sent_again_as_it_was(
    refused: Shell, server: RunningServer, session: str
) -> None:
    letter = letters(refused, "list", "--code", "ENDED")[0]
    refused.good("emit", "STARTED")
    done = refused.good("dead", "retry", letter["id"])
    assert len(done.lines) == 1
    agents = f"fabric:{{0}}:{session}:agents"
    until(lambda: json.loads(server.cli("HGET", agents, "A")).get("percent") == 5)
    assert [one["code"] for one in letters(refused)] == ["TYPE"]


def test_an_old_number_does_not_make_a_letter_a_repeat(
    shell: Shell, server: RunningServer, session: str
) -> None:
    def send(kind: str, seq: int, *fields: str) -> None:
        envelope = ("session", session, "type", kind, "emitter", "B", "seq", str(seq))
        server.cli("XADD", "fabric:{0}:signals", "*", *envelope, *fields)

    send("COMPLETED", 1)
    send("PROGRESS(7%)", 2)
    send("STARTED", 9, "incarnation", "2")
    until(lambda: [one["code"] for one in letters(shell)] == ["ENDED"])
    shell.good("dead", "retry", "--all")
    agents = f"fabric:{{0}}:{session}:agents"
    until(lambda: json.loads(server.cli("HGET", agents, "B")).get("percent") == 7)


def test_a_signal_that_is_still_wrong_comes_back(refused: Shell) -> None:
    before = {one["id"] for one in letters(refused)}
    rows = refused.good("dead", "retry", "--all", "--code", "TYPE", "--json").json_lines
    assert [row["letter"] in before for row in rows] == [True]
    until(lambda: len(letters(refused)) == 2)
    assert len({one["id"] for one in letters(refused)} - before) == 1


@pytest.mark.slow
def test_all_letters_of_a_session_are_discarded(refused: Shell, server: RunningServer) -> None:
    other = refused.good("emit", "COMPLETED", FABRIC_SESSION="other")
    assert other.out
    refused.good("emit", "PROGRESS(5%)", FABRIC_SESSION="other")
    until(lambda: len(letters(refused, "--session", "other")) == 1)
    assert len(refused.good("dead", "discard", "--all").lines) == 2
    assert letters(refused) == []
    kept = letters(refused, "--session", "other")
    assert len(kept) == 1
    assert refused.good("dead", "discard", kept[0]["id"]).lines == [kept[0]["id"]]


def test_an_unknown_letter(shell: Shell) -> None:
    for verb in ("show", "retry", "discard"):
        done = shell.run("dead", verb, "5-0")
        assert (done.code, done.out) == (3, "")
        assert "no dead letter 5-0" in done.err
    assert shell.run("dead", "retry", "soon").code == 2


def test_an_unknown_letter_stops_all(refused: Shell) -> None:
    first = letters(refused)[0]["id"]
    assert refused.run("dead", "discard", first, "5-0").code == 3
    assert len(letters(refused)) == 2


@pytest.mark.parametrize(
    "words", [("retry",), ("retry", "1-0", "--all"), ("discard",), ("retry", "1-0", "--code", "X")]
)
def test_letters_must_be_named(shell: Shell, words: tuple[str, ...]) -> None:
    assert shell.run("dead", *words).code == 2


def test_a_letter_written_by_hand_contains_nothing_to_send(
    shell: Shell, server: RunningServer
) -> None:
    letter = server.cli("XADD", "fabric:{0}:dead", "*", "a", "b")
    done = shell.run("dead", "retry", letter)
    assert (done.code, done.out) == (4, "")
    shell.good("dead", "discard", letter)


def test_letters_of_several_partitions_are_named_with_theirs(
    quiet: Shell, server: RunningServer
) -> None:
    name = quiet.variables["FABRIC_NAMESPACE"]
    server.cli("HSET", f"{name}:meta", "partitions", "2")
    for number in (0, 1):
        server.cli(
            *("XADD", f"{name}:{{{number}}}:dead", "7-0", "code", "C", "reason", "r"),
            *("source", f"{name}:{{{number}}}:signals", "id", "1-0", "raw.session", "s"),
        )
    assert [one["id"] for one in letters(quiet)] == ["0/7-0", "1/7-0"]
    done = quiet.run("dead", "show", "7-0")
    assert done.code == 2
    assert "name one of 0/7-0, 1/7-0" in done.err
    quiet.good("dead", "retry", "1/7-0")
    assert [one["id"] for one in letters(quiet)] == ["0/7-0"]
    assert server.cli("XLEN", f"{name}:{{1}}:signals") == 1


def test_a_result_goes_back_to_the_results_as_it_was(quiet: Shell, server: RunningServer) -> None:
    name = quiet.variables["FABRIC_NAMESPACE"]
    held = ("session", "s", "type", "PARTIAL_RESULT", "emitter", "A", "cause", "7-0", "seq", "3")
    raw = [part if at % 2 else f"raw.{part}" for at, part in enumerate(held)]
    results, dead = f"{name}:{{0}}:results", f"{name}:{{0}}:dead"
    for entry_id, source in (("1-0", f"{name}:{{0}}:signals"), ("2-0", results)):
        server.cli(
            *("XADD", dead, entry_id, "code", "TAMPERED", "reason", "r"),
            *("source", source, "id", "1-0", *raw),
        )
    ids = quiet.good("dead", "retry", "2-0", "1-0").lines
    (result,) = server.cli("XRANGE", results, "-", "+")
    (signal,) = server.cli("XRANGE", f"{name}:{{0}}:signals", "-", "+")
    assert [result[0], signal[0]] == ids
    assert result[1] == list(held)
    assert signal[1] == list(held[:-2]), "a signal loses its number, a result keeps all"
    assert letters(quiet) == []


def test_a_letter_from_another_stream_is_not_sent(quiet: Shell, server: RunningServer) -> None:
    name = quiet.variables["FABRIC_NAMESPACE"]
    server.cli("HSET", f"{name}:meta", "partitions", "2")
    server.cli(
        *("XADD", f"{name}:{{1}}:dead", "2-0", "code", "C", "reason", "r"),
        *("source", f"{name}:{{0}}:results", "id", "1-0", "raw.session", "s"),
    )
    done = quiet.run("dead", "retry", "1/2-0")
    assert (done.code, done.out) == (4, "")
    assert len(letters(quiet)) == 1
