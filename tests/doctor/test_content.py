"""Keys that something else has written to: each is named, with advice."""

import pytest

from fabric.doctor import Level, content
from fabric.store.keys import ORCHESTRATORS, SYNTHESIZERS, Namespace, Partition
from tests.doctor.worked import examine, odd, only, work
from tests.support.servers import RunningServer

LOG, AGENTS, META = "fabric:{0}:s:log", "fabric:{0}:s:agents", "fabric:meta"
LOCK, BARRIER = "fabric:{0}:s:lock:a:b.py", "fabric:{0}:s:barrier:release"
SYNTHESIS, SAID = "fabric:{0}:s:synthesis", "fabric:{0}:s:said:A"
SWEEPS = "fabric:{0}:deadlines:synthesizers"

#: A claim with the id 5:A.
CLAIM = '{"agent":"A","state":"held","writes":["a"],"asked":5}'

#: Stands for the id of the session's last entry.
LAST = "(last)"

#: Attributes of the classes in `keys.py` that are no keys, or take another argument than a name.
NO_KEYS = {
    *("lease", "timers", "source", "session", "session_of", "prefix", "name", "number"),
    *("reader", "keeper", "bound", "aside", "copy"),
}

#: Keys that do not exist after the work: replicas, and timers of finished sweeps.
SHORT_LIVED = {
    *map(Namespace("").replicas, (ORCHESTRATORS, SYNTHESIZERS)),
    *map(Namespace("").workers, (ORCHESTRATORS, SYNTHESIZERS)),
    Partition("", 0).timers(SYNTHESIZERS),
}


@pytest.fixture(autouse=True)
def _own_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FABRIC_CONFIG", "/dev/null")
    monkeypatch.delenv("FABRIC_REDIS_URL", raising=False)
    monkeypatch.delenv("FABRIC_NAMESPACE", raising=False)


@pytest.fixture
def worked(server: RunningServer) -> RunningServer:
    work(server)
    return server


def test_a_namespace_in_use_is_fine(worked: RunningServer) -> None:
    report = examine(worked)
    assert report.exit_code == 0
    assert odd(report) == []
    count = worked.cli("DBSIZE")
    assert only(report, "keys").found.startswith(f"{count} looked at, all of the type and shape")
    assert only(report, "dead letters").found == "1 signal refused and kept"
    assert worked.cli("DBSIZE") == count


def test_every_key_has_a_row(worked: RunningServer) -> None:
    namespace, partition = Namespace("n"), Partition("n:{0}", 0)
    session = partition.session("s")
    found = [namespace.meta, *map(namespace.replicas, (ORCHESTRATORS, SYNTHESIZERS))]
    found += map(namespace.workers, (ORCHESTRATORS, SYNTHESIZERS))
    found += map(partition.lease, (ORCHESTRATORS, SYNTHESIZERS))
    found.append(partition.timers(SYNTHESIZERS))
    for names in (partition, session):
        for name in vars(type(names)):
            attribute = None if name.startswith("_") else getattr(names, name)
            if name in NO_KEYS or attribute is None:
                continue
            found.append(attribute("A:b") if callable(attribute) else attribute)
    for key in found:
        assert content.known(namespace, key) is not None, f"{key}: needs a row in content.py"
    kinds = (content.NAMESPACE_KINDS, content.PARTITION_KINDS, content.SESSION_KINDS)
    assert len(found) == sum(map(len, kinds))
    # The session has written all of them, so every row is tested.
    written = {content.known(Namespace(), key) for key in worked.cli("KEYS", "fabric:*")}
    shapes = {one.kind for one in written if one is not None}
    rows = [row for table in kinds for row in table.items()]
    assert {name for name, kind in rows if kind not in shapes} <= SHORT_LIVED


@pytest.mark.parametrize(
    ("command", "level", "said"),
    [
        (["SET", "fabric:{0}:s:lot", "x"], Level.WARN, "fabric:{0}:s:lot: unknown"),
        (["SET", "fabric:other", "x"], Level.WARN, "fabric:other: unknown"),
        (["SET", b"fabric:\xff\x1b[2J", "x"], Level.WARN, "'fabric:\\\\xff\\x1b[2J': unknown"),
        (["SET", "fabric:{0}:dead", "x"], Level.FAIL, "dead: is a string, the fabric keeps a str"),
        (["SET", AGENTS, "x"], Level.FAIL, "agents: is a string, the fabric keeps a hash"),
        (["LPUSH", "fabric:{0}:deadlines", "x"], Level.FAIL, "deadlines: is a list"),
        (["HSET", AGENTS, "A", "no JSON"], Level.FAIL, "agents: A is not what the fabric writes"),
        (["HSET", AGENTS, "A", '{"status":"odd"}'], Level.FAIL, "agents: A is not what"),
        (["HSET", "fabric:{0}:s:tasks", "t", "[]"], Level.FAIL, "tasks: t is not what"),
        (["HSET", "fabric:{0}:s:dependencies", "d", "1"], Level.FAIL, "dependencies: d is not"),
        (["HSET", "fabric:{0}:s:claims", "c", "{}"], Level.FAIL, "claims: c is not what"),
        (["HSET", "fabric:{0}:s:claims", "8:B", CLAIM], Level.FAIL, "claims: 8:B is not what"),
        (["HSET", LOCK, "token", "one"], Level.FAIL, "lock:a:b.py: token is not what"),
        (["HSET", LOCK, "colour", "red"], Level.FAIL, "lock:a:b.py: colour is not what"),
        (["ZADD", "fabric:{0}:s:queue:x", "-inf", "D"], Level.FAIL, "queue:x: D is not what"),
        (["HSET", "fabric:{0}:s:barriers", "b", "[]"], Level.FAIL, "barriers: b is not what"),
        (["HSET", BARRIER, "state", "odd"], Level.FAIL, "barrier:release: state is not what"),
        (["HSET", BARRIER, "members", "A"], Level.FAIL, "barrier:release: members is not what"),
        (["HSET", BARRIER, "deadline", "soon"], Level.FAIL, "barrier:release: deadline is not"),
        (["HSET", BARRIER, "colour", "red"], Level.FAIL, "barrier:release: colour is not what"),
        (["ZADD", "fabric:{0}:s:arrived:x", "inf", "D"], Level.FAIL, "arrived:x: D is not what"),
        (["HSET", "fabric:{0}:s:escalations", "q", "{}"], Level.FAIL, "escalations: q is not what"),
        (["HSET", "fabric:{0}:s:meta", "log", "many"], Level.FAIL, "meta: log is not what"),
        (["HSET", "fabric:{0}:s:meta", "token", "-1"], Level.FAIL, "meta: token is not what"),
        (["HSET", "fabric:{0}:s:meta", "rules", "mine"], Level.FAIL, "meta: rules is not what"),
        (["HSET", "fabric:{0}:s:cursors", "A", "there"], Level.FAIL, "cursors: A is not what"),
        (["HSET", "fabric:{0}:s:incarnations", "A", "-1"], Level.FAIL, "incarnations: A is not"),
        (["HSET", SYNTHESIS, "A", "{"], Level.FAIL, "synthesis: A is not what"),
        (["HSET", SYNTHESIS, "findings:k", "[]"], Level.FAIL, "synthesis: findings:k is not what"),
        (["HSET", SYNTHESIS, "agents:A", "{}"], Level.FAIL, "synthesis: agents:A is not what"),
        (["HSET", SYNTHESIS, "revision", "x"], Level.FAIL, "synthesis: revision is not what"),
        (["HSET", SYNTHESIS, "complete", "1"], Level.FAIL, "synthesis: complete is not what"),
        (["HSET", SYNTHESIS, b"\xff:k", "{}"], Level.FAIL, "is not what"),
        (["XADD", "fabric:{0}:s:revisions", "*", "f", "v"], Level.FAIL, "revisions: entry "),
        (["ZADD", SAID, 0, "agents:A"], Level.FAIL, "said:A: agents:A is not what"),
        (["ZADD", SAID, 1, "findings:k"], Level.FAIL, "said:A: findings:k is not what"),
        (["ZADD", SWEEPS, 1, "late"], Level.FAIL, "deadlines:synthesizers: late is not what"),
        (["HSET", "fabric:{0}:lease", "expires", "soon"], Level.FAIL, "lease: expires is not what"),
        (["HSET", META, "partitions", "0"], Level.FAIL, "meta: partitions is not what"),
        (["HSET", META, "schema", "9"], Level.FAIL, "meta: schema is not what"),
        (["HSET", META, "colour", "red"], Level.FAIL, "meta: colour is not what"),
        (["DEL", META], Level.FAIL, "meta: gone, and with it the number of partitions"),
        (["ZADD", "fabric:{0}:sessions", 1, "a:b"], Level.FAIL, "sessions: a:b is not what"),
        (["ZADD", "fabric:{0}:deadlines", 1, "late"], Level.FAIL, "deadlines: late is not what"),
        (["ZADD", "fabric:{0}:deadlines", "-inf", "s:x"], Level.FAIL, "deadlines: s:x is not what"),
        (["XADD", LOG, "*", "kind", "signal"], Level.FAIL, "log: has come to id "),
        (["XADD", LOG, LAST, "kind", "signal"], Level.FAIL, "-99 lacks ms, type"),
        (["XADD", "fabric:{0}:s:inbox:A", "*", "f", "v"], Level.FAIL, "inbox:A: has come to id"),
        (["XADD", "fabric:{0}:s:broadcast", LAST, "f", "v"], Level.FAIL, "broadcast: entry "),
        (["XADD", "fabric:{0}:results", "*", "f", "v"], Level.FAIL, "results: entry "),
        (["XADD", "fabric:{0}:dead", "*", "f", "v"], Level.FAIL, "dead: entry "),
        (["DEL", "fabric:{0}:s:meta"], Level.FAIL, "log: has come to id "),
        (["RENAME", AGENTS, "fabric:{3}:s:agents"], Level.FAIL, "agents: in partition 3, of 1"),
    ],
)
def test_a_key_that_was_tampered_with_is_named(
    worked: RunningServer, command: list[str | int | bytes], level: Level, said: str
) -> None:
    if worked.cli("TYPE", command[1]) != "none" and command[0] in ("SET", "LPUSH"):
        worked.cli("DEL", command[1])
    last = f"{worked.cli('HGET', 'fabric:{0}:s:meta', 'log')}-99"
    worked.cli(*(last if word == LAST else word for word in command))
    report = examine(worked)
    assert any(found[0] is level and said in found[1] for found in odd(report)), odd(report)
    assert report.exit_code == (1 if level is Level.FAIL else 0)
    assert all(found.advice for found in report.findings if found.check == "key")


def test_one_damaged_key_does_not_hide_the_others(worked: RunningServer) -> None:
    for key in (META, "fabric:{0}:s:meta", "fabric:{0}:lease"):
        worked.cli("DEL", key)
        worked.cli("SET", key, "x")
    worked.cli("HDEL", "fabric:{0}:lease:synthesizers", "epoch")
    report = examine(worked, reseed=True)
    assert report.exit_code == 1
    assert [found for _, found in odd(report)] == [
        f"{key}: is a string, the fabric keeps a hash there"
        for key in (META, "fabric:{0}:lease", "fabric:{0}:s:meta")
    ]
    assert [one.level for one in report.findings if one.check == "re-seeded"] == [Level.FAIL]
    assert only(report, "dead letters").level is Level.WARN


def test_a_session_in_the_wrong_partition_is_found(worked: RunningServer) -> None:
    worked.cli("HSET", META, "partitions", 2)  # crc32("s") is odd
    found = odd(examine(worked))
    assert (Level.FAIL, f"{LOG}: in partition 0, but its session belongs in 1") in found


def test_odd_keys_are_named_up_to_a_limit(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(30):
        server.cli("SET", f"fabric:stray{number}", "x")
    server.cli("SET", "other:stray", "x")
    report = examine(server)
    assert len(odd(report)) == 20
    assert only(report, "keys").found == "30 looked at, 30 of them odd"
    monkeypatch.setattr("fabric.doctor.content.KEYS_EXAMINED_MAX", 10)
    assert "10 looked at, 10 of them odd; there are more" in only(examine(server), "keys").found
