"""Every time that is shown or compared is the server's, whatever this host's clock says."""

import re

import pytest

from tests.support.servers import RunningServer
from tests.support.shell import Shell
from tests.support.waiting import until

#: Many processes.
pytestmark = pytest.mark.slow

#: Runs the command line with a clock that is so many seconds off.
SHIFTED = """
import sys, time

seconds, nanoseconds = time.time, time.time_ns
time.time = lambda: seconds() + {shift_s}
time.time_ns = lambda: nanoseconds() + {shift_s} * 10**9
from fabric.cli import main

sys.exit(main())
"""

COMMANDS = [
    ("status",),
    ("status", "--sessions"),
    ("escalations",),
    ("why", "B"),
    ("wait", "x", "-a", "C", "--timeout", "0.3"),
    ("doctor",),
]

#: Less than two minutes have passed since.
RECENT = re.compile(r"\b1?\d?\d s ago")
#: What differs from one call to the next; and the check whose subject is this host's clock.
CHANGING = re.compile(
    r"(?ms)^[^\n]*\bclock\b.*?(?=\nok|\nwarn)|\d+ of \d+ in use|\d+-\d+|\b\d+ s\b|[ \d]+"
)


@pytest.fixture
def told(shell: Shell, session: str, server: RunningServer) -> Shell:
    """A shell in whose session B waits for A, who has asked something."""
    shell.good("emit", "STARTED", 'produces=["x"]')
    shell.good("emit", "BLOCKED", "on=x", "-a", "B")
    shell.good("emit", "ESCALATE", "question=Which port?", "wait=false")
    until(lambda: server.cli("HGET", f"fabric:{{0}}:{session}:meta", "log") == "3")
    return shell


def said(told: Shell, shift_s: int) -> list[tuple[int, str]]:
    program, found = SHIFTED.format(shift_s=shift_s), []
    for words in COMMANDS:
        done = told.run(*words, program=program)
        text = RECENT.sub("just now", done.out + done.err)
        found.append((done.code, CHANGING.sub(" ", text)))
    return found


def test_a_client_whose_clock_is_wrong_says_the_same(told: Shell) -> None:
    told.run(*COMMANDS[4])  # C is known from then on
    right = said(told, 0)
    assert [("just now" in text) for _, text in right[:5]] == [True, True, True, True, True]
    assert "the-one" in right[1][1]
    for shift_s in (-600, 6, 1_800):
        assert said(told, shift_s) == right
