"""Clients that edit the same files at once lose no edit; the model of that test is tried first."""

import pytest

from tests.clients import edit
from tests.clients.bench import PROGRAMS
from tests.clients.collision import run
from tests.clients.two_hosts import CREWS, measure
from tests.hosts.network import missing

#: A few: a round of twelve takes minutes (`python -m tests.clients.collision`).
FILES = 3

SCRIPT = {
    "edits": [{"path": "a", "line": "line-x-r0-f0"}, {"path": "b", "line": "line-x-r0-f1"}],
    "read": {"read": "{path}"},
    "write": {"write": "{path}", "text": "{text}"},
}


def test_the_model_reads_writes_and_looks_whether_it_is_there() -> None:
    results: list[str] = []
    for said, wanted in (
        (None, {"read": "a"}),
        ("1 line-base-r0-f0", {"write": "a", "text": "line-base-r0-f0\nline-x-r0-f0\n"}),
        ("refused", {"read": "a"}),
        ("line-base-r0-f0 line-y-r0-f0", None),
        ("done", {"read": "a"}),
        ("line-base-r0-f0 line-y-r0-f0 line-x-r0-f0", {"read": "b"}),
        ("line-x-r0-f1", {}),
    ):
        results += [said] if said is not None else []
        found = edit.turn(SCRIPT, results).get("tools", [{}])[0]
        if wanted is None:
            wanted = {"write": "a", "text": "line-base-r0-f0\nline-y-r0-f0\nline-x-r0-f0\n"}
        assert found == wanted


@pytest.mark.slow
def test_no_edit_is_lost_when_clients_collide() -> None:
    installed = [name for name, program in PROGRAMS.items() if program.exists()]
    if len(installed) < 2:
        pytest.skip("fewer than two clients are installed: scripts/clients")
    (found,) = run(1, installed, with_fabric=True, files=FILES)
    assert (found.lost, found.failed, found.refusals["not explained"]) == (0, [], 0)


@pytest.mark.slow
def test_no_edit_is_lost_when_the_link_of_a_host_is_cut() -> None:
    """Both hosts go on meanwhile, and what was kept on the one that was cut is reported."""
    if why := missing():
        pytest.skip(why)
    if not all(any(PROGRAMS[one].exists() for one in crew) for crew in CREWS.values()):
        pytest.skip("not one client for each host is installed: scripts/clients")
    found = measure(files=4)
    assert found.is_well, found
    assert found.kept, found
