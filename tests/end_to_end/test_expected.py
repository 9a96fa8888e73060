"""A fleet of 100 with a roster, in processes of their own: three never come, two come twice under
one name, and one is asleep.

`FABRIC_TEST_SLEEP_S=180 python -m pytest tests/end_to_end/test_expected.py --suite rest` lets it
sleep for three minutes.
"""

import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from subprocess import PIPE

import pytest

from fabric.client.sync import SyncFabric
from tests.end_to_end.expected import SESSION
from tests.support.daemon import StartDaemon, environment
from tests.support.forked import Forked
from tests.support.keyspace import records, rows, session
from tests.support.servers import RunningServer
from tests.support.waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.one_server]

NAMES = [f"W{number:02}" for number in range(100)]
SLEEPER, ABSENT, TWICE = NAMES[0], NAMES[97:], NAMES[10:12]
SLEEP_S = float(os.environ.get("FABRIC_TEST_SLEEP_S", "20"))
#: Longer than the busiest machine lets an agent wait for its turn, and shorter than the sleep.
SILENCE_MS_MAX = round(750 * SLEEP_S)
#: For processes to start and to end, one after the other on a busy machine.
SECONDS_MAX = 120.0

KEYS = session(SESSION)


#: Processes that a failed test leaves; one that is asleep would not end by itself.
_started: list[Forked] = []


@pytest.fixture(autouse=True)
def _nobody_is_left() -> Iterator[None]:
    yield
    for process in _started:
        process.kill()
    _started.clear()


def start(server: RunningServer, name: str, *words: str) -> Forked:
    process = Forked(
        *("tests.end_to_end.expected", (server.url, name, *words)),
        cwd=tempfile.gettempdir(),
        env=environment(),
        stdin=PIPE,
        stdout=PIPE,
        stderr=PIPE,
    )
    _started.append(process)
    return process


def now_s(server: RunningServer) -> float:
    seconds, micros = server.cli("TIME")
    return int(seconds) + int(micros) / 1e6


def said(process: Forked) -> str:
    """End an agent's input; return what it says at its end, with its exit code."""
    _, err = process.communicate(b"", SECONDS_MAX)
    return f"{process.wait()} {err}"


def test_those_that_do_not_come_are_named_a_second_process_is_refused_and_a_sleeper_lives(
    server: RunningServer, daemon: StartDaemon, tmp_path: Path
) -> None:
    rules = tmp_path / "fabric.toml"
    rules.write_text(f"[liveness]\nsilence_ms_min = 5000\nsilence_ms_max = {SILENCE_MS_MAX}\n")
    daemon(server.url, rules=rules)
    daemon(server.url, worker="synthesizer", rules=rules)
    with SyncFabric.connect(server.url, session=SESSION) as fabric:
        fabric.expect(*NAMES)
    running = {name: start(server, name) for name in NAMES[1:97]}
    # One at the same moment as the first, and one while the first is at work.
    seconds = [start(server, TWICE[0])]
    until(lambda: len(records(server, KEYS.agents)) == 96, seconds_max=SECONDS_MAX)
    asleep = start(server, SLEEPER, str(round(1_000 * (SLEEP_S + SECONDS_MAX))))
    until(lambda: records(server, KEYS.agents).get(SLEEPER, {}).get("quiet_until_ms"))
    slept_s = now_s(server)
    seconds.append(start(server, TWICE[1]))
    # Only now: a busy machine may take minutes to start so many.
    with SyncFabric.connect(server.url, session=SESSION) as fabric:
        fabric.expect(*ABSENT, deadline_ms=1_000)

    until(lambda: named(server) == set(ABSENT), seconds_max=SECONDS_MAX + SLEEP_S)
    waiting = cli(server, "wait", "--all")
    told = [row for row in rows(server, KEYS.log, type="NOTICE") if row.payload["code"] == "ABSENT"]
    assert [row["to"] for row in told] == ["*"], "all at work are told, once"
    assert all(name in told[0].payload["reason"] for name in ABSENT)

    done = {name: said(one) for name, one in running.items()}
    pair = {name: [done.pop(name), said(one)] for name, one in zip(TWICE, seconds, strict=True)}
    assert {name: text for name, text in done.items() if text[0] != "0"} == {}
    for name, texts in pair.items():
        assert sorted(text[0] for text in texts) == ["0", "5"], texts
        assert any(name in text for text in texts if text[0] == "5"), texts

    until(lambda: now_s(server) > slept_s + SLEEP_S, seconds_max=2 * SLEEP_S + SECONDS_MAX)
    agents = records(server, KEYS.agents)
    assert agents[SLEEPER]["status"] == "active"
    assert {one["status"] for name, one in agents.items() if name != SLEEPER} == {"completed"}
    assert waiting.poll() is None, "the sleeper is waited for"
    asleep.send_signal(signal.SIGCONT)
    assert said(asleep)[0] == "0"
    _, err = waiting.communicate(b"", SECONDS_MAX)
    assert waiting.wait() == 1
    assert [line for line in err.splitlines() if "expected" in line] == [
        f"fabric: {name} was expected, and has not come" for name in ABSENT
    ]
    assert rows(server, KEYS.log, type="CANCEL") == []
    with SyncFabric.connect(server.url, session=SESSION) as fabric:
        final = fabric.session().until_final()
    assert (len(final.findings), final.complete.missing) == (97, ABSENT)


def named(server: RunningServer) -> set[str]:
    """Return the agents that were named because they have not come."""
    return {name for name, one in records(server, KEYS.roster).items() if one.get("absent_ms")}


def cli(server: RunningServer, *words: str) -> Forked:
    return Forked(
        *("fabric.cli", (*words, "--redis-url", server.url, "-s", SESSION)),
        cwd=tempfile.gettempdir(),
        env=environment(),
        stdin=PIPE,
        stdout=PIPE,
        stderr=PIPE,
    )
