"""A forked process finds what a started one finds."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from subprocess import DEVNULL, PIPE

import pytest

from tests.support.forked import Forked
from tests.support.servers import ROOT

MODULE = "tests.support.sample_program"
SECONDS_MAX = 60.0


def forked(folder: Path, *words: str, **more: str) -> Forked:
    environment = {"HOME": str(folder), "PATH": os.environ["PATH"], **more}
    return Forked(MODULE, words, cwd=folder, env=environment, stdin=PIPE, stdout=PIPE, stderr=PIPE)


def test_it_finds_what_a_started_process_finds(tmp_path: Path) -> None:
    environment = {"HOME": str(tmp_path), "PATH": os.environ["PATH"], "A": "é"}
    started = subprocess.run(
        [sys.executable, "-m", MODULE, "a b", ""],
        cwd=tmp_path,
        env={**environment, "PYTHONPATH": str(ROOT)},
        input="some\ninput",
        capture_output=True,
        check=True,
        text=True,
    )
    out, err = forked(tmp_path, "a b", "", A="é").communicate(b"some\ninput", SECONDS_MAX)
    first, last = (json.loads(one.splitlines()[0]) for one in (started.stdout, out))
    del first["environment"]["PYTHONPATH"]
    for found in (first, last):
        found["environment"].pop("LC_CTYPE", None)  # set by an interpreter that finds no locale
    assert last == first
    assert (err, out.splitlines()[2]) == ("", "the rest, flushed at the end")


def test_exit_codes(tmp_path: Path) -> None:
    failing = forked(tmp_path, "fail")
    failing.communicate(timeout=SECONDS_MAX)
    assert failing.returncode == failing.poll() == failing.wait() == 3


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_signals(tmp_path: Path, number: signal.Signals) -> None:
    with forked(tmp_path, "wait") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.close()
        process.stdout.readline()
        os.kill(process.pid, 0)
        assert process.poll() is None
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0)
        process.send_signal(number)
        assert process.wait(SECONDS_MAX) == -number
        process.send_signal(number)  # it has ended: nobody gets it


def test_no_two_draw_the_same_numbers(tmp_path: Path) -> None:
    drawn = {forked(tmp_path).communicate(b"", SECONDS_MAX)[0].splitlines()[1] for _ in range(2)}
    assert len(drawn) == 2


def test_files_of_our_own(tmp_path: Path) -> None:
    with (tmp_path / "out").open("w+") as out:
        environment = {"PATH": os.environ["PATH"]}
        process = Forked(
            MODULE, [], cwd=tmp_path, env=environment, stdin=DEVNULL, stdout=out, stderr=out
        )
        assert process.wait(SECONDS_MAX) == 0
        out.seek(0)
        assert json.loads(out.readline())["input"] == ""
