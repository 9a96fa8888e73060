"""`fabric status`, `tail` and `keys`: their output for people and for programs."""

import json
import shlex

import pytest

from fabric.ops.overview import redis_cli
from fabric.view.status import active_form
from tests.support.servers import RunningServer
from tests.support.shell import Shell, end
from tests.support.waiting import until

#: Many processes; what they show is tested in the library too.
pytestmark = pytest.mark.slow

#: The first half of the seeds' example session: who says what.
EXAMPLE = [
    ("A", "A", ["STARTED", 'produces=["schema-change"]', "--task", "Review auth module"]),
    ("B", "B", ["STARTED"]),
    ("A", "A", ["PROGRESS(25%)", "--checkpoint", "files_read"]),
    ("B", "B", ["BLOCKED(schema-change)"]),
    ("A", "A", ["DEPENDENCY_RESOLVED(schema-change)", "--location", "alembic/xyz.py"]),
    ("A", "A", ["CHECKPOINT_REACHED(c)"]),
    ("A", "A", ["PARTIAL_RESULT", 'partial={"security issues": 2}']),
    ("A", "A", ["COMPLETED"]),
]


@pytest.fixture
def example(shell: Shell, session: str, server: RunningServer) -> Shell:
    """A shell in whose session the example has been played."""
    lines = []
    for agent, stream, (kind, *words) in EXAMPLE:
        pairs = [w for w in words if "=" in w]
        flags = [w for w in words if "=" not in w]
        document: dict[str, object] = {"type": kind, "emitter": agent, "stream": stream}
        for name, value in (pair.split("=", 1) for pair in pairs):
            document[name] = json.loads(value)
        names = {"--location": "output_location"}
        for flag, value in zip(flags[::2], flags[1::2], strict=True):
            document[names.get(flag, flag.strip("-"))] = value
        lines.append(json.dumps(document))
    shell.good("emit", "-", "-q", given="\n".join(lines))
    until(lambda: server.cli("HGET", f"fabric:{{0}}:{session}:meta", "log") == str(len(EXAMPLE)))
    return shell


def test_the_columns_of_the_timeline(example: Shell) -> None:
    lines = example.good("tail", "--all").lines
    assert lines[0] == "Time  Signal                    Stream  Action"
    assert lines[1] == "────  ────────────────────────  ──────  " + "─" * 29
    assert {line[:4] for line in lines[2:]} <= {"0:00", "0:01", "0:02"}
    assert [line[6:] for line in lines[2:]] == [
        "STARTED                   A       A begins work on Review auth module",
        "STARTED                   B       B begins work",
        "PROGRESS(25%)             A       A reports progress: files_read",
        "BLOCKED(schema-change)    B       B needs schema-change",
        "(nudge)                   A       A is told that B needs schema-change",
        "DEPENDENCY_RESOLVED       A       A completes schema-change: alembic/xyz.py",
        "(auto-resume)             B       B continues: schema-change is there",
        "CHECKPOINT_REACHED        A       A reaches a safe point: c",
        "PARTIAL_RESULT            A       A hands over findings",
        "COMPLETED                 A       A is done",
    ]


def test_the_timeline_from_an_id_knows_the_streams(example: Shell) -> None:
    lines = example.good("tail", "--since", "5-1").lines
    assert lines[2][6:].split()[:2] == ["(auto-resume)", "B"]


def test_the_log_as_it_is(example: Shell, session: str) -> None:
    rows = example.good("tail", session, "--json", FABRIC_SESSION="").json_lines
    assert [row["id"] for row in rows][:6] == ["1-0", "2-0", "3-0", "4-0", "4-1", "5-0"]
    assert rows[4]["kind"] == "directive"
    assert rows[4]["cause"] == "4-0"
    assert rows[4]["payload"] == {"on": "schema-change", "waiting": ["B"]}


def test_the_timeline_goes_on(example: Shell) -> None:
    process = example.start("tail", "--follow", "--since", "8-0")
    assert process.stdout is not None
    head = [process.stdout.readline() for _ in range(2)]
    assert head[0].startswith("Time")
    example.good("emit", "PROGRESS(99%)", FABRIC_AGENT="B")
    assert "PROGRESS(99%)" in process.stdout.readline()
    process.terminate()
    assert end(process).code == 143


def test_a_session_stream_by_stream(example: Shell) -> None:
    lines = example.good("status").lines
    assert lines[0] == "Stream A"
    assert lines[1].split()[:4] == ["AGENT", "STATUS", "DONE", "CHECKPOINT"]
    assert lines[2].split()[:4] == ["A", "completed", "100", "%"]
    assert lines[4] == "Stream B"
    assert lines[6].split()[:2] == ["B", "active"]
    rows = {line.split()[0]: line.split()[1:] for line in lines if line.startswith("  schema")}
    assert rows == {"schema-change": ["resolved", "alembic/xyz.py", "A"]}


def test_a_session_for_programs(example: Shell, session: str) -> None:
    document = example.good("status", session, "--json").json
    assert document["session"] == session
    assert document["agents"]["A"]["status"] == "completed"
    assert document["dependencies"]["schema-change"]["location"] == "alembic/xyz.py"
    assert document["tasks"]["Review auth module"]["agent"] == "A"


def test_tasks_as_a_todo_list(example: Shell) -> None:
    assert example.good("status", "--todo").json == [
        {
            "content": "Review auth module",
            "status": "completed",
            "activeForm": "Reviewing auth module",
            "progress_percent": 100,
            "last_signal": "COMPLETED",
            "partial_findings": ["2 security issues"],
        }
    ]


def test_all_sessions_and_their_workers(example: Shell, session: str) -> None:
    document = example.good("status", "--sessions", "--json").json
    assert document["sessions"][0]["name"] == session
    assert document["sessions_total"] >= 1
    (partition,) = document["partitions"]
    assert (partition["number"], partition["backlog"], partition["dead"]) == (0, 0, 0)
    (holder,) = partition["holders"]
    assert (holder["group"], holder["owner"]) == ("orchestrators", "the-one")
    assert holder["held"] is True
    lines = example.good("status", FABRIC_SESSION="").lines
    assert lines[0].split() == ["SESSION", "LAST", "ACTIVE", "PARTITION"]
    assert lines[1].split()[0] == session
    assert lines[-1].split()[-2:] == ["the-one", "nobody"]


def test_commands_that_read_create_no_namespace(quiet: Shell, server: RunningServer) -> None:
    done = quiet.run("status", "--sessions")
    assert (done.code, done.err) == (0, "no sessions yet\n")
    quiet.good("keys", FABRIC_SESSION="")
    quiet.good("inbox")
    name = quiet.variables["FABRIC_NAMESPACE"]
    assert server.cli("KEYS", f"{name}:*") == []


@pytest.mark.parametrize("words", [("status",), ("tail",), ("keys",)])
def test_an_unknown_session(shell: Shell, words: tuple[str, ...]) -> None:
    done = shell.run(*words, "nowhere")
    assert (done.code, done.out) == (3, "")
    assert "no session nowhere" in done.err


@pytest.mark.parametrize("of", ["namespace", "session"])
def test_every_line_of_keys_reads_its_key(
    example: Shell, server: RunningServer, session: str, of: str
) -> None:
    words = [session] if of == "session" else []
    lines = example.good("keys", *words, FABRIC_SESSION="").lines
    read = 0
    for line in lines:
        command, meaning = line.split("  # ")
        assert meaning
        program, flag, socket, *words = shlex.split(command)
        assert (program, flag, socket) == ("redis-cli", "-s", str(server.socket))
        read += bool(server.cli(*words))
    # Some are empty here: no synthesizer runs, nothing was refused, nobody has asked anything.
    assert read >= len(lines) - (7 if of == "namespace" else 14)


def test_keys_for_programs(example: Shell, session: str) -> None:
    rows = example.good("keys", "--json").json
    inbox = next(row for row in rows if row["name"].endswith(":inbox:B"))
    assert inbox["type"] == "stream"
    assert inbox["command"].endswith(f"XRANGE 'fabric:{{0}}:{session}:inbox:B' - +")


@pytest.mark.parametrize(
    ("url", "line", "has_password"),
    [
        ("redis://localhost:6379/0", "redis-cli -u redis://localhost:6379/0", False),
        ("redis://", "redis-cli -u redis://localhost", False),
        ("redis://:s3cret@h:1/2", "redis-cli -u redis://h:1/2", True),
        ("rediss://me:s3@cret@h:1", "redis-cli -u rediss://h:1 --user me", True),
        ("redis://h?db=3&username=me&password=x", "redis-cli -u redis://h/3 --user me", True),
        (
            "rediss://h/1?ssl_ca_certs=/a%20b/ca.pem&ssl_certfile=/c&ssl_keyfile=/k",
            "redis-cli -u rediss://h/1 --cacert '/a b/ca.pem' --cert /c --key /k",
            False,
        ),
        (
            "rediss://h?ssl_ca_path=/certs&ssl_cert_reqs=none",
            "redis-cli -u rediss://h --cacertdir /certs --insecure",
            False,
        ),
        ("unix:///a%20b/r.sock?db=0", "redis-cli -s '/a b/r.sock'", False),
        ("unix://me:s3cret@/r.sock?db=2", "redis-cli -s /r.sock -n 2 --user me", True),
    ],
)
def test_how_redis_cli_is_called(url: str, line: str, has_password: bool) -> None:
    assert redis_cli(url) == (line, has_password)


@pytest.mark.parametrize(
    ("content", "active"),
    [
        ("Review auth module", "Reviewing auth module"),
        ("fix it", "fixing it"),
        ("Run", "Running"),
        ("Reviewing auth module", "Reviewing auth module"),
        ("auth module", "Working on: auth module"),
    ],
)
def test_the_active_form_of_a_task(content: str, active: str) -> None:
    assert active_form(content) == active


@pytest.mark.parametrize("words", [("tail",), ("status",), ("inbox",), ("wait", "--all")])
def test_a_name_that_is_not_text(shell: Shell, words: tuple[str, ...]) -> None:
    done = shell.run(*words, FABRIC_SESSION="\udcff")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("fabric: session: '\\udcff' is no name")


def test_texts_of_agents_move_no_terminal(shell: Shell) -> None:
    shell.good("emit", "FAILED", "error=a\x1b[31mb\nc")
    assert shell.run("wait", "--all").code == 1
    for words in (("tail",), ("status",)):
        out = shell.good(*words).out
        assert "\x1b" not in out
        assert "a·[31mb" in out
