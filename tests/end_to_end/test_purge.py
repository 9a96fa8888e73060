"""`fabric purge` on real servers: all of one session goes, nothing of another, and workers live."""

import gzip
import json
import re
from pathlib import Path

import pytest

from tests.end_to_end.crowd import DEMO, say
from tests.support.daemon import Daemon, StartDaemon
from tests.support.keyspace import rows
from tests.support.servers import RunningServer
from tests.support.shell import Shell, end
from tests.support.waiting import until


@pytest.fixture
def workers(server: RunningServer, daemon: StartDaemon) -> list[Daemon]:
    """Start both workers as processes."""
    return [daemon(server.url, worker=name) for name in ("orchestrator", "synthesizer")]


@pytest.fixture
def shell(server: RunningServer, tmp_path: Path) -> Shell:
    return Shell(tmp_path, {"FABRIC_REDIS_URL": server.url, "FABRIC_CONFIG": "/dev/null"})


def connections(server: RunningServer) -> int:
    told = str(server.cli("INFO", "stats"))
    return int(re.findall(r"total_connections_received:(\d+)", told)[0])


def keys_of(server: RunningServer, session: str) -> list[str]:
    found: list[str] = server.cli("KEYS", f"fabric:*0*:{session}:*")
    return sorted(found)


def test_all_of_a_session_goes_and_its_name_begins_anew(
    server: RunningServer, workers: list[Daemon], shell: Shell
) -> None:
    finding = {"findings": [{"key": "port", "value": 1}]}
    say(server, "STARTED", "A", "B", writes=["a.py"])
    say(server, "PARTIAL_RESULT", "A", partial=finding)
    shell.good("emit", "INTENT(a.py)", "emitter=A", "session=other", "--confirm")
    other = keys_of(server, "other")
    shown = shell.run("purge", "demo", "--by", "eva")
    assert shown.code == 0
    assert "at work: A, B" in shown.out
    assert "nothing is deleted yet" in shown.err
    refused = shell.run("purge", "demo", "--yes", "--by", "eva")
    assert refused.code == 4
    assert "A, B still work in demo: close it first" in refused.err
    shell.good("close", "demo", "--by", "eva")
    until(lambda: rows(server, DEMO.revisions) and rows(server, DEMO.revisions)[-1]["final"] == "1")
    assert shell.run("purge", "--ended", "--by", "eva", "--json").json["sessions"][0]["is_closed"]
    gone = shell.run("purge", "--ended", "--older-than", "0s", "--yes", "--by", "eva")
    assert (gone.code, gone.err) == (0, "")
    assert keys_of(server, "demo") == []
    assert set(other) <= set(keys_of(server, "other"))
    say(server, "STARTED", "A")
    until(lambda: rows(server, DEMO.log))
    assert shell.good("replay", "demo").out.startswith("same: 1 events")
    assert all(worker.is_alive for worker in workers)


def test_many_that_have_ended_go_together_over_a_few_connections(
    server: RunningServer, workers: list[Daemon], shell: Shell
) -> None:
    lines = [
        {"session": f"s{number}", "emitter": "A", "signal": signal}
        for number in range(130)
        for signal in ("STARTED", "COMPLETED")
    ]
    shell.good("emit", "-", "-q", given="\n".join(map(json.dumps, lines)))
    shell.good("emit", "STARTED", "emitter=A", "session=other", "--confirm")
    until(lambda: all(rows(server, f"fabric:{{0}}:s{number}:log")[1:] for number in (0, 129)))
    before = connections(server)
    gone = shell.run("purge", "--ended", "--yes", "--by", "eva", "--json")
    assert gone.code == 0, gone.err
    assert len(gone.json["sessions"]) == 130
    assert server.cli("KEYS", "fabric:*0*:s*:meta") == []
    assert connections(server) - before < 20
    # One that may not be deleted keeps no other.
    for name in ("s1", "s2"):
        shell.good("emit", "STARTED", "emitter=A", f"session={name}", "--confirm")
    shell.good("close", "s2", "--by", "eva")
    refused = shell.run("purge", "s1", "other", "s2", "--yes", "--by", "eva")
    assert refused.code == 4
    assert "A still work in s1" in refused.err
    assert "A still work in other" in refused.err
    assert keys_of(server, "s2") == []


def test_a_session_that_somebody_deletes_begins_anew(
    server: RunningServer, workers: list[Daemon], shell: Shell
) -> None:
    say(server, "STARTED", "A", "B")
    until(lambda: len(rows(server, DEMO.log)) >= 2)
    server.cli("DEL", *keys_of(server, "demo"))
    say(server, "STARTED", "A")
    until(lambda: rows(server, DEMO.log), lambda: "\n".join(one.said() for one in workers))
    assert rows(server, DEMO.log)[0].id == "1-0"
    assert shell.good("replay", "demo").out.startswith("same: 1 events")


@pytest.mark.parametrize("key", [DEMO.meta, DEMO.log])
def test_half_of_a_session_is_named_and_goes_whole(
    server: RunningServer, workers: list[Daemon], shell: Shell, key: str, tampering: None
) -> None:
    say(server, "STARTED", "A")
    say(server, "COMPLETED", "A")
    until(lambda: len(rows(server, DEMO.log)) >= 2)
    server.cli("DEL", key)
    refused = shell.run("emit", "STARTED", "emitter=B", "session=demo", "--confirm")
    assert refused.code == 4
    assert f"key {key} is gone: somebody has deleted it" in refused.err
    assert "`fabric purge` deletes it" in refused.err
    assert server.cli("EXISTS", key) in (0, "0")
    shell.good("purge", "demo", "--yes", "--by", "eva")
    assert keys_of(server, "demo") == []
    shell.good("emit", "STARTED", "emitter=B", "session=demo", "--confirm")
    # Nobody knows which tokens it has handed out: the next ones begin far above.
    assert rows(server, DEMO.log)[0]["type"] == "TOKENS"
    assert shell.good("replay", "demo").out.startswith("same: 2 events")


def test_a_session_is_written_to_a_file_and_checked_there(
    server: RunningServer, workers: list[Daemon], shell: Shell
) -> None:
    say(server, "STARTED", "A", "B", writes=["a.py"])
    say(server, "PARTIAL_RESULT", "A", partial={"findings": [{"key": "port", "value": 1}]})
    say(server, "BLOCKED", "B", on="schema")
    until(lambda: len(rows(server, DEMO.log, kind="signal")) == 4)
    shell.good("close", "demo", "--by", "eva")
    until(lambda: rows(server, DEMO.revisions) and rows(server, DEMO.revisions)[-1]["final"] == "1")
    live = shell.good("replay", "demo").out
    written = shell.run("export", "demo", "--out", "demo.ndjson.gz")
    assert (written.code, "lines written to demo.ndjson.gz" in written.err) == (0, True)
    gone = shell.run("purge", "demo", "--yes", "--export", ".", "--by", "eva")
    assert (gone.code, gone.err) == (0, "")
    assert shell.good("replay", "demo.ndjson.gz").out == live
    assert "closed run 1 of demo" in shell.good("why", "B", "--file", "demo.ndjson.gz").out
    # One byte of a message that was changed is found, and so is a file that was cut off.
    text = gzip.decompress((shell.home / "demo.ndjson.gz").read_bytes())
    (shell.home / "other.ndjson").write_bytes(text.replace(b'"CANCEL"', b'"CANCELS"', 1))
    assert shell.run("replay", "other.ndjson").code == 1
    (shell.home / "cut.ndjson").write_bytes(text[: len(text) // 2])
    cut = shell.run("replay", "cut.ndjson")
    assert (cut.code, "cut.ndjson:" in cut.err) == (2, True)


@pytest.mark.slow  # a deletion that does not end is waited for
def test_without_a_synthesizer_it_says_what_it_waits_for(
    server: RunningServer, daemon: StartDaemon, shell: Shell
) -> None:
    daemon(server.url)
    say(server, "STARTED", "A")
    say(server, "COMPLETED", "A")
    until(lambda: len(rows(server, DEMO.log)) >= 2)
    waited = shell.run("purge", "demo", "--yes", "--by", "eva")
    assert waited.code == 7
    assert "demo is not gone yet: no synthesizer serves its partition" in waited.err
    assert "not gone after 10" in waited.err
    # It is done when there is one; and one more that is sent meanwhile waits for that.
    again = shell.start("purge", "demo", "--yes", "--by", "eva")
    daemon(server.url, worker="synthesizer")
    done = end(again)
    assert done.code == 0, done
    assert not keys_of(server, "demo")


@pytest.mark.slow
def test_workers_that_may_not_scan_work_and_say_that_they_cannot_delete(
    server: RunningServer, daemon: StartDaemon, shell: Shell, tampering: None
) -> None:
    rules = ("on", ">pw", "~*", "&*", "+@all", "-scan", "-zscan")
    server.cli("ACL", "SETUSER", "few", *rules)
    url = server.url.replace("://", "://few:pw@", 1)
    try:
        workers = [daemon(url, worker=name) for name in ("orchestrator", "synthesizer")]
        say(server, "STARTED", "A")
        say(server, "COMPLETED", "A")
        until(lambda: len(rows(server, DEMO.log)) >= 2)
        waited = shell.run("purge", "demo", "--yes", "--by", "eva")
        assert waited.code == 7
        assert "the synthesizers cannot delete it: " in waited.err
        assert "SCAN" in waited.err.upper()
        assert all(worker.is_alive for worker in workers)
        # Others go on.
        shell.good("emit", "STARTED", "emitter=B", "session=other", "--confirm")
    finally:
        server.cli("ACL", "DELUSER", "few")
