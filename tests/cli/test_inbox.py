"""`fabric inbox`: messages in order, each once, or again with --peek."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest

from fabric.ops import script as paging
from fabric.store.port import BEGINNING
from fabric.store.redis import RedisStore
from tests.cli.inbox_pages import all_pages
from tests.support.servers import RunningServer
from tests.support.shell import Shell, end, is_following
from tests.support.waiting import eventually, until


@pytest.fixture
def told(shell: Shell, session: str, server: RunningServer) -> Shell:
    """A shell whose agent A has been told four things, by log id 2-1, 3-1, 4-1 and 5-1."""
    said = [
        {"type": "STARTED", "produces": ["x", "y"]},
        {"type": "BLOCKED(x)", "emitter": "B", "stream": "B"},
        {"type": "CHECKPOINT_REACHED(c)", "emitter": "B"},
        {"type": "CHECKPOINT_REACHED(d)", "emitter": "B"},
        {"type": "BLOCKED(y)", "emitter": "C"},
    ]
    shell.good("emit", "-", given="\n".join(map(json.dumps, said)))
    until(lambda: server.cli("XLEN", f"fabric:{{0}}:{session}:inbox:A") == 2)
    return shell


IDS = ["2-1", "3-1", "4-1", "5-1"]


def ids(shell: Shell, *words: str) -> list[str]:
    return [row["id"] for row in shell.good("inbox", "--json", *words).json_lines]


def test_messages_come_once_in_the_order_of_the_log(told: Shell) -> None:
    rows = told.good("inbox", "--json").json_lines
    assert rows[0] == {
        "id": "2-1",
        "type": "NUDGE",
        "from": "ORCHESTRATOR",
        "stream": "",
        "cause": "2-0",
        "payload": {"on": "x", "waiting": ["B"]},
        "to_everyone": False,
    }
    assert [(row["id"], row["to_everyone"]) for row in rows] == [
        ("2-1", False),
        ("3-1", True),
        ("4-1", True),
        ("5-1", False),
    ]
    assert ids(told) == []
    assert told.good("inbox").out == ""


def test_in_words(told: Shell) -> None:
    lines = told.good("inbox").lines
    assert [line.split()[:4] for line in lines[:2]] == [
        ["2-1", "NUDGE", "from", "ORCHESTRATOR"],
        ["3-1", "CHECKPOINT_REACHED", "from", "B"],
    ]


def test_peeking_leaves_messages_unread(told: Shell) -> None:
    assert ids(told, "--peek") == ids(told, "--peek") == IDS
    assert ids(told) == IDS


def test_what_the_reader_of_a_pipe_does_not_take_stays_unread(told: Shell) -> None:
    process = told.start("inbox", "--json")
    taken = subprocess.run(
        ["/usr/bin/head", "-1"], stdin=process.stdout, capture_output=True, check=True, timeout=60
    )
    assert process.stdout is not None
    process.stdout.close()
    assert json.loads(taken.stdout)["id"] == IDS[0]
    assert process.wait(60) in {0, 141}
    assert ids(told) == IDS[1:]


def test_what_cannot_be_written_stays_unread(told: Shell) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "fabric.cli", "inbox"], stdout=full, stderr=subprocess.PIPE,
            env=told.environment(), cwd=told.home, check=False, timeout=60,
        )  # fmt: skip
    assert done.returncode == 74
    assert done.stderr == b"fabric: output cannot be written: No space left on device\n"
    assert ids(told) == IDS


def test_a_reader_that_takes_its_time_loses_nothing(told: Shell) -> None:
    """It reads only when the command has ended: so the command does not wait for it."""
    process = told.start("inbox", "--json")
    assert process.wait(60) == 0
    assert process.stdout is not None
    assert [json.loads(line)["id"] for line in process.stdout] == IDS


def test_a_connection_that_is_closed_between_two_pages(
    told: Shell, session: str, server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paging, "COUNT", 2)

    async def read() -> list[str]:
        store, found = RedisStore(server.url), []
        inbox = paging.Inbox(store, store.namespace.partition(0).session(session), "A")
        async for messages, _ in inbox.pages([BEGINNING, BEGINNING]):
            found += [message.id for message in messages]
            server.cli("CLIENT", "KILL", "TYPE", "normal")
            await eventually(lambda: not any(one.is_connected for one in store._channels.values()))
        await store.close()
        return found

    assert asyncio.run(read()) == IDS


def test_a_count_is_a_page(told: Shell) -> None:
    assert ids(told, "--count", "3") == IDS[:3]
    assert ids(told, "--count", "3") == IDS[3:]


def test_reading_from_an_id_marks_nothing_as_read(told: Shell) -> None:
    assert ids(told) == IDS
    assert ids(told, "--since", "3-1") == IDS[2:]
    assert ids(told, "--since", "0") == IDS
    assert ids(told) == []
    assert told.run("inbox", "--since", "soon").code == 2


def test_following_goes_on_with_what_comes(told: Shell, server: RunningServer) -> None:
    process = told.start("inbox", "--follow", "--count", "5", "--json")
    until(lambda: is_following(server))
    told.good("emit", "CHECKPOINT_REACHED(e)", FABRIC_AGENT="B")
    done = end(process)
    assert done.code == 0
    assert [row["id"] for row in done.json_lines] == [*IDS, "6-1"]
    assert ids(told) == []


def test_the_inbox_of_an_unknown_agent_is_empty(shell: Shell) -> None:
    assert shell.good("inbox", "--agent", "nobody").out == ""


def test_pages_keep_the_order_across_the_two_streams(
    told: Shell, monkeypatch: pytest.MonkeyPatch, server: RunningServer, session: str
) -> None:
    """With one message a page, the inbox's second must wait for the broadcast's first."""
    monkeypatch.setattr(paging, "COUNT", 1)
    assert all_pages(server.url, session, "A") == [[one] for one in IDS]
