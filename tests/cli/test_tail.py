"""`fabric tail` on logs with known times: merged rows, details left out, page ends."""

from typing import Any

import msgspec
import pytest
import redis

from fabric.client.session import PAGE
from fabric.core.record import AgentRecord, AgentStatus
from tests.support import example_session
from tests.support.servers import RunningServer
from tests.support.shell import Shell, end
from tests.support.waiting import until

Entries = list[tuple[bytes, list[bytes]]]


def log_of(shell: Shell, of: str = "log") -> str:
    """A key of the shell's session."""
    return f"{shell.variables['FABRIC_NAMESPACE']}:{{0}}:{shell.variables['FABRIC_SESSION']}:{of}"


def write(shell: Shell, server: RunningServer, entries: Entries) -> None:
    """Log entries as the orchestrator does, at times of our own."""
    server.cli("HSET", log_of(shell, "meta"), "opened_ms", example_session.OPENED_MS)
    for entry_id, flat in entries:
        server.cli("XADD", log_of(shell), entry_id, *flat)


def started(count: int, first: int = 1) -> Entries:
    """As many agents that begin at the same time."""
    ms = str(example_session.OPENED_MS)
    return [
        (
            f"{number}-0".encode(),
            example_session.entry("signal", "STARTED", {}, ms=ms, emitter=f"A{number}", stream="S"),
        )
        for number in range(first, first + count)
    ]


def columns(line: str) -> tuple[str, str, str]:
    return line[:4].strip(), line[6:30].strip(), line[32:38].strip()


@pytest.mark.parametrize("derived", [False, True], ids=["detector", "intents"])
def test_the_example_row_for_row(quiet: Shell, server: RunningServer, derived: bool) -> None:
    write(quiet, server, example_session.logged(derived=derived))
    lines = quiet.good("tail").lines
    assert lines[0] == "Time  Signal                    Stream  Action"
    assert [columns(line) for line in lines[2:]] == example_session.ROWS
    assert lines[2].endswith("  A begins work; B begins work")


def test_every_row_by_itself(quiet: Shell, server: RunningServer) -> None:
    entries = example_session.logged(derived=True)
    write(quiet, server, entries)
    rows = [columns(line) for line in quiet.good("tail", "--all").lines[2:]]
    assert rows[:2] == [("0:00", "STARTED", "A"), ("0:00", "STARTED", "B")]
    assert [signal for time, signal, _ in rows if time == "0:25"] == [
        *("INTENT", "(proceed)", "INTENT", "CONFLICT_DETECTED"),
        *("(pause)", "(pause)", "(serialize)", "(wait)"),
    ]
    assert len(quiet.good("tail", "--json").lines) == len(entries)
    assert quiet.good("tail", "--all", "--json").out == quiet.good("tail", "--json").out


def test_details_from_an_id_on(quiet: Shell, server: RunningServer) -> None:
    write(quiet, server, example_session.logged())
    for name in "AB":
        record = msgspec.json.encode(AgentRecord(AgentStatus.ACTIVE, incarnation=1, stream=name))
        server.cli("HSET", log_of(quiet, "agents"), name, record)
    lines = quiet.good("tail", "--since", "7-1").lines
    assert [columns(line) for line in lines[2:]] == example_session.ROWS[6:]


def test_page_ends_are_invisible(quiet: Shell, server: RunningServer) -> None:
    write(quiet, server, started(PAGE + 2))
    (row,) = quiet.good("tail").lines[2:]
    assert row.startswith(
        "0:00  STARTED                   S       A1 begins work; A2 begins work; "
    )
    process = quiet.start("tail", "--follow")
    assert process.stdout is not None
    assert [process.stdout.readline() for _ in range(3)][2].rstrip("\n") == row
    process.terminate()
    assert end(process).code == 143


def test_following_prints_the_last_row_at_once(quiet: Shell, server: RunningServer) -> None:
    """A full page that is the log's end is printed before the next one is waited for."""
    write(quiet, server, started(PAGE))
    process = quiet.start("tail", "--follow")
    until(lambda: is_waiting(server))
    process.terminate()
    done = end(process)
    assert done.code == 143
    (row,) = done.lines[2:]
    assert row.endswith(" more")


def is_waiting(server: RunningServer) -> bool:
    """Whether a command is held in a read that found nothing."""
    clients = server.cli("CLIENT", "LIST").splitlines()
    return any(" name=fabric-cli " in line and " flags=b" in line for line in clients)


def test_following_shows_what_came_instead(quiet: Shell, server: RunningServer) -> None:
    """After a failover with loss, say: the log goes on from an earlier event."""
    write(quiet, server, started(3))
    process = quiet.start("tail", "--follow", "--all")
    until(lambda: is_waiting(server))
    server.cli("XDEL", log_of(quiet), "2-0", "3-0")
    server.cli("XSETID", log_of(quiet), "1-0")
    raw = redis.Redis(unix_socket_path=str(server.socket))
    with raw, raw.pipeline() as at_once:
        at_once.client_kill_filter(_type="normal", skipme=True)
        for number, (_, flat) in enumerate(started(3, 7), 2):
            fields: Any = dict(zip(flat[::2], flat[1::2], strict=True))
            at_once.xadd(log_of(quiet), fields, id=f"{number}-0")
        at_once.execute()
    until(lambda: is_waiting(server))
    process.terminate()
    done = end(process)
    names = [name for row in done.lines[2:] for name in row.split() if name[1:].isdigit()]
    assert names == ["A1", "A2", "A3", "A7", "A8", "A9"]
    assert "the events after log id 1-0 never happened" in done.err
