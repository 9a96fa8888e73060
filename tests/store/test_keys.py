"""Key names are a public contract, for redis-cli and other languages."""

import pytest

from fabric.store.keys import ORCHESTRATORS, SYNTHESIZERS, Namespace, partition_of

NAMES = Namespace().partition(3)
KEYS = NAMES.session("demo")

CONTRACT = {
    "fabric:meta": Namespace().meta,
    "fabric:replicas:orchestrators": Namespace().replicas(ORCHESTRATORS),
    "fabric:workers:orchestrators": Namespace().workers(ORCHESTRATORS),
    "fabric:{3}:signals": NAMES.signals,
    "fabric:{3}:results": NAMES.results,
    "fabric:{3}:dead": NAMES.dead,
    "fabric:{3}:sessions": NAMES.sessions,
    "fabric:{3}:deadlines": NAMES.deadlines,
    "fabric:{3}:deadlines:synthesizers": NAMES.timers(SYNTHESIZERS),
    "fabric:{3}:lease": NAMES.lease(ORCHESTRATORS),
    "fabric:{3}:lease:synthesizers": NAMES.lease(SYNTHESIZERS),
    "fabric:{3}:demo:log": KEYS.log,
    "fabric:{3}:demo:broadcast": KEYS.broadcast,
    "fabric:{3}:demo:inbox:B: two": KEYS.inbox("B: two"),
    "fabric:{3}:demo:meta": KEYS.meta,
    "fabric:{3}:demo:agents": KEYS.agents,
    "fabric:{3}:demo:tasks": KEYS.tasks,
    "fabric:{3}:demo:dependencies": KEYS.dependencies,
    "fabric:{3}:demo:cursors": KEYS.cursors,
    "fabric:{3}:demo:incarnations": KEYS.incarnations,
    "fabric:{3}:demo:synthesis": KEYS.synthesis,
    "fabric:{3}:demo:revisions": KEYS.revisions,
    "fabric:{3}:demo:said:B: two": KEYS.said("B: two"),
}


@pytest.mark.parametrize("name", CONTRACT)
def test_a_name_is_as_documented(name: str) -> None:
    assert CONTRACT[name] == name


def test_workers_read_their_own_input() -> None:
    assert NAMES.source(ORCHESTRATORS) == NAMES.signals
    assert NAMES.source(SYNTHESIZERS) == NAMES.results


def test_a_key_tells_its_session() -> None:
    for name in CONTRACT:
        expected = "demo" if ":demo:" in name else None
        if name.startswith(NAMES.prefix):
            assert NAMES.session_of(name) == expected, name


@pytest.mark.parametrize("session", ["lease", "signals", "meta", "{x}", "\u00e9", "a b"])
def test_no_session_can_take_a_key_of_the_partition(session: str) -> None:
    """Names of sessions have no colon; nor have the partition's keys, except two."""
    keys = NAMES.session(session)
    own = {keys.log, keys.agents, keys.inbox("A"), keys.said("synthesizers"), keys.meta}
    assert not own & set(CONTRACT)
    assert {NAMES.session_of(key) for key in own} == {session}
    # The first braces are the hash tag: all keys of a partition are in one slot of a cluster.
    assert all(key.partition("{")[2].partition("}")[0] == "3" for key in own)


@pytest.mark.parametrize(("session", "crc"), [("demo", 0xD642DFA0), ("", 0), ("é", 0x0E048D3E)])
def test_the_partition_is_the_crc_of_the_name(session: str, crc: int) -> None:
    """As every other language and shell computes it."""
    for partitions in (1, 2, 64, 1024):
        assert partition_of(session, partitions) == crc % partitions
    assert {partition_of(f"s{number}", 4) for number in range(100)} == {0, 1, 2, 3}
