"""`fabric emit`: one signal, or many from standard input."""

import json
import subprocess
import sys

import pytest

from fabric.core.limits import PARTIAL_PARTS_MAX
from fabric.wire.stored import fields_of
from tests.support.servers import RunningServer
from tests.support.shell import Shell, end
from tests.support.waiting import until

STREAMING = {
    "signal": "PROGRESS",
    "percent": 50,
    "checkpoint": "files_analyzed",
    "partial": {"files_found": 12, "patterns_matched": 3},
    "next_checkpoint": "tests_verified",
}
PROPAGATION = {
    "signal_type": "DEPENDENCY_RESOLVED",
    "emitter": "ARCHITECT",
    "stream": "A",
    "timestamp": "2025-12-30T19:30:00Z",
    "payload": {
        "dependency_id": "schema-migration",
        "output_location": "alembic/versions/xyz.py",
        "consumers": ["SCHEDULER", "QA_TESTER"],
    },
}


def ingress(server: RunningServer, shell: Shell) -> list[tuple[str, dict[str, str]]]:
    """What waits in a namespace that nobody serves, with the payload still text."""
    key = f"{shell.variables['FABRIC_NAMESPACE']}:{{0}}:signals"
    found = server.cli("XRANGE", key, "-", "+")
    return [(name, fields_of(flat)) for name, flat in found]


def sent(server: RunningServer, shell: Shell) -> dict[str, object]:
    """The only entry of the ingress, its payload read."""
    ((_, fields),) = ingress(server, shell)
    payload = {"payload": json.loads(fields["payload"])} if "payload" in fields else {}
    return {**fields, **payload}


#: A result of more values than a synthesis takes at a time.
LARGE = json.dumps({f"k{number}": number for number in range(PARTIAL_PARTS_MAX + 1)})

ENVELOPE = {"session": "s", "emitter": "A"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (
            ["PROGRESS", "--percent", "50", "--checkpoint", "files_read"],
            {"type": "PROGRESS", "payload": {"percent": 50, "checkpoint": "files_read"}},
        ),
        (["PROGRESS(25%)"], {"type": "PROGRESS", "payload": {"percent": 25}}),
        (["BLOCKED", "on=a=b"], {"type": "BLOCKED", "payload": {"on": "a=b"}}),
        (["BLOCKED", "--on", "x"], {"type": "BLOCKED", "payload": {"on": "x"}}),
        (["BLOCKED(schema-change)"], {"type": "BLOCKED", "payload": {"on": "schema-change"}}),
        (
            ["STARTED", 'produces=["a","b"]', "priority=3", "--task", "t", "--stream", "B"],
            {
                "type": "STARTED",
                "task": "t",
                "stream": "B",
                "payload": {"produces": ["a", "b"], "priority": 3},
            },
        ),
        (
            ["DEPENDENCY_RESOLVED(x)", "--location", "here", "--field", "mine=1"],
            {
                "type": "DEPENDENCY_RESOLVED",
                "payload": {"dependency_id": "x", "output_location": "here", "mine": "1"},
            },
        ),
        (
            ["COMPLETED", "--payload", '{"result": [1]}', "--seq", "4", "--incarnation", "2"],
            {"type": "COMPLETED", "seq": "4", "incarnation": "2", "payload": {"result": [1]}},
        ),
        (
            ["HEARTBEAT", "--at", "2025-12-30T19:30:00Z", "--trace", "00-ab-cd-01"],
            {"type": "HEARTBEAT", "at": "2025-12-30T19:30:00Z", "trace": "00-ab-cd-01"},
        ),
        (["STARTED", "emitter=B"], {"type": "STARTED", "emitter": "B"}),
    ],
)
def test_words_become_a_signal(
    quiet: Shell, server: RunningServer, words: list[str], expected: dict[str, object]
) -> None:
    done = quiet.good("emit", *words)
    assert sent(server, quiet) == {**ENVELOPE, **expected}
    assert done.lines == [ingress(server, quiet)[0][0]]


@pytest.mark.parametrize("by", ["argument", "line"])
@pytest.mark.parametrize("document", [STREAMING, PROPAGATION], ids=["streaming", "propagation"])
def test_both_spellings(
    quiet: Shell, server: RunningServer, document: dict[str, object], by: str
) -> None:
    text = json.dumps(document)
    if by == "argument":
        quiet.good("emit", text)
    else:
        quiet.good("emit", "-", given=text)
    if document is PROPAGATION:
        expected = {
            "session": "s",
            "type": "DEPENDENCY_RESOLVED",
            "emitter": "ARCHITECT",
            "stream": "A",
            "at": "2025-12-30T19:30:00Z",
            "payload": PROPAGATION["payload"],
        }
    else:
        payload = {name: value for name, value in STREAMING.items() if name != "signal"}
        expected = {**ENVELOPE, "type": "PROGRESS", "payload": payload}
    assert sent(server, quiet) == expected


def test_output_is_an_id_or_json_or_nothing(quiet: Shell, server: RunningServer) -> None:
    quiet.good("emit", "STARTED")
    document = quiet.good("emit", "HEARTBEAT", "--json").json
    assert quiet.good("emit", "HEARTBEAT", "--quiet").out == ""
    assert document == {"id": ingress(server, quiet)[1][0]}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["PROGRES(5)"], "PROGRESS"),
        (["PROGRESS", "percent=150"], "percent"),
        (["BLOCKED"], "on"),
        (["STARTED", "--percent", "5", "percent=6"], "percent"),
        (["STARTED", "produces"], "'produces' is not NAME=VALUE"),
        (["INTENT", "write=a.py"], "write: got a value; allowed: writes, a field of INTENT"),
        (["INTENT(write=a.py)"], "write: got a value; allowed: writes, a field of INTENT"),
        (["STARTED", "--payload", "[1]"], "payload"),
        (["STARTED", "-a", "ORCHESTRATOR"], "the fabric itself sends under this one"),
        (["SYNTHESIZED", "-a", "SYNTHESIZER"], "the fabric itself sends under this one"),
        (["STARTED", "--at", "yesterday"], "RFC 3339"),
        (["STARTED", "--seq", "x"], "seq"),
        (["-", "on=x"], "standard input"),
        (['{"signal": "STARTED"}', "--on", "x"], "a JSON document must contain all fields"),
        (['{"signal": '], "a JSON object"),
        # A result that no synthesis would take is refused as an agent's own library refuses it.
        (["PROGRESS", f"partial={LARGE}"], "more than 2000 values"),
        ([f'{{"signal": "PARTIAL_RESULT", "partial": {LARGE}}}'], "more than 2000 values"),
    ],
)
def test_a_bad_signal_is_refused_and_not_sent(
    quiet: Shell, server: RunningServer, words: list[str], said: str
) -> None:
    done = quiet.run("emit", *words)
    assert (done.code, done.out) == (2, "")
    assert said in done.err
    assert ingress(server, quiet) == []


@pytest.mark.parametrize("missing", ["session", "agent"])
def test_session_and_agent_are_required(quiet: Shell, missing: str) -> None:
    del quiet.variables[f"FABRIC_{missing.upper()}"]
    done = quiet.run("emit", "STARTED")
    assert done.code == 2
    assert f"no {missing}: name one (--{missing}), or set FABRIC_{missing.upper()}" in done.err
    quiet.good("emit", "STARTED", f"--{missing}", "x")


def test_bad_lines_are_reported_and_others_are_sent(quiet: Shell, server: RunningServer) -> None:
    lines = [
        '{"signal": "PROGRESS", "percent": 5}',
        "",
        "BLOCKED(x)",
        '{"signal": "PROGRESS", "percent": 500}',
        "{no json",
        '"STARTED"',
        "[1]",
        '{"percent": 5}',
        "\udcff".encode("utf-8", "surrogateescape").decode("latin-1"),
        '{"type": "HEARTBEAT", "emitter": "B"}',
    ]
    done = quiet.run("emit", "-", "--json", given="\n".join(lines))
    assert done.code == 1
    assert [row["line"] for row in done.json_lines] == [1, 3, 6, 10]
    assert [row["id"] for row in done.json_lines] == [name for name, _ in ingress(server, quiet)]
    told = [line.split(":")[1].strip() for line in done.err.splitlines()[:-1]]
    assert told == ["line 4", "line 5", "line 7", "line 8", "line 9"]
    assert "percent: got 500" in done.err
    assert done.err.splitlines()[-1] == "fabric: 4 sent, 5 refused"


def test_strict_stops_at_the_first_bad_line(quiet: Shell, server: RunningServer) -> None:
    done = quiet.run("emit", "-", "--strict", given="HEARTBEAT\nNONSENSE\nHEARTBEAT\n")
    assert done.code == 1
    assert "line 2" in done.err
    assert [name for name, _ in ingress(server, quiet)] == done.lines
    assert len(done.lines) == 1


def test_a_line_is_sent_as_soon_as_it_arrives(quiet: Shell, server: RunningServer) -> None:
    process = quiet.start("emit", "-")
    assert process.stdin is not None
    assert process.stdout is not None
    for count in range(1, 4):
        process.stdin.write(f"PROGRESS({count}%)\n")
        process.stdin.flush()
        entry_id = process.stdout.readline().strip()
        assert [name for name, _ in ingress(server, quiet)][count - 1 :] == [entry_id]
    assert end(process) == (0, "", "")


def test_many_lines_are_sent_together_in_order(quiet: Shell, server: RunningServer) -> None:
    server.cli("CONFIG", "RESETSTAT")
    given = "".join(f'{{"signal": "PROGRESS", "percent": {n % 100}}}\n' for n in range(2_000))
    assert quiet.good("emit", "-", "-q", given=given).out == ""
    entries = ingress(server, quiet)
    percents = [json.loads(fields["payload"])["percent"] for _, fields in entries]
    assert percents == [n % 100 for n in range(2_000)]
    calls = server.cli("INFO", "commandstats").partition("cmdstat_evalsha:calls=")[2]
    assert int(calls.partition(",")[0]) < 100


def test_from_a_file(quiet: Shell, server: RunningServer) -> None:
    path = quiet.home / "signals"
    path.write_text("HEARTBEAT\n" * 3)
    with path.open() as given:
        done = subprocess.run(
            [sys.executable, "-m", "fabric.cli", "emit", "-"],
            stdin=given,
            env=quiet.environment(),
            cwd=quiet.home,
            capture_output=True,
            check=True,
        )
    assert len(done.stdout.splitlines()) == len(ingress(server, quiet)) == 3


def test_a_full_ingress_holds_back_or_raises(quiet: Shell, server: RunningServer) -> None:
    full = {"FABRIC_INGRESS_MAX": "1"}
    quiet.good("emit", "STARTED", **full)
    done = quiet.run("emit", "HEARTBEAT", "--when-full", "raise", **full)
    assert (done.code, done.out) == (1, "")
    assert "1 are allowed" in done.err
    done = quiet.run("emit", "-", "--when-full", "raise", given="HEARTBEAT\n" * 3, **full)
    assert done.code == 1
    assert "lines 1 to 3, which may not have arrived" in done.err
    process = quiet.start("emit", "HEARTBEAT", **full)
    key = f"{quiet.variables['FABRIC_NAMESPACE']}:{{0}}:signals"
    until(lambda: " name=fabric-cli " in server.cli("CLIENT", "LIST"))
    server.cli("XTRIM", key, "MAXLEN", "0")
    assert end(process).code == 0
    assert len(ingress(server, quiet)) == 1


@pytest.mark.parametrize("by", ["words", "argument", "line"])
def test_files_are_named_by_what_is_there(quiet: Shell, server: RunningServer, by: str) -> None:
    (quiet.home / "src").mkdir()
    (quiet.home / "link.py").symlink_to("src/a.py")
    texts = ["link.py,src", f"{quiet.home}/b.py"]
    if by == "words":
        quiet.good("emit", "INTENT", "writes=" + ",".join(texts))
    else:
        document = json.dumps({"type": "INTENT", "writes": texts})
        given = document if by == "line" else ""
        quiet.good("emit", document if by == "argument" else "-", given=given)
    assert sent(server, quiet)["payload"] == {"writes": ["src/a.py", "src/**", "b.py"]}
