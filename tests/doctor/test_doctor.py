"""The doctor's findings on real servers, healthy and badly configured; and lost epochs."""

import asyncio
import time
from collections.abc import Callable

import pytest

from fabric import doctor
from fabric.devserver.build import open_holes, parse
from fabric.doctor import server as checks
from fabric.doctor.server import Facts, Level
from fabric.errors import NotAllowedError, UnreachableError, UnsupportedServerError
from fabric.store import permission, scripts
from fabric.store.address import redacted
from fabric.store.keys import ORCHESTRATORS
from fabric.store.redis import TAKE_OVERS_MAX, RedisStore
from tests.doctor.worked import examine, only, work
from tests.support.in_process import serving
from tests.support.servers import RunningServer
from tests.support.waiting import eventually

META = "fabric:meta"


@pytest.fixture(autouse=True)
def _own_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FABRIC_CONFIG", "/dev/null")
    monkeypatch.delenv("FABRIC_REDIS_URL", raising=False)
    monkeypatch.delenv("FABRIC_NAMESPACE", raising=False)


@pytest.fixture
def worked(server: RunningServer) -> RunningServer:
    work(server)
    return server


def test_an_empty_server_is_fine(server: RunningServer) -> None:
    report = examine(server)
    assert report.exit_code == 0
    assert only(report, "reachable").found == "there"
    name = server.flavour.partition("-")[0]
    version = next(
        row.partition(":")[2]
        for row in server.cli("INFO", "server").splitlines()
        if row.startswith(f"{name}_version:")
    )
    assert only(report, "server").found == f"{name} {version}"
    for check in ("commands", "newer commands", "eviction", "memory", "replication", "clock"):
        assert only(report, check).level is Level.OK, only(report, check)
    assert only(report, "persistence").level is Level.WARN
    assert only(report, "persistence").found.startswith("NONE")
    assert (
        only(report, "orchestrators").found == "none holds a partition, 0 alive, and nothing waits"
    )
    assert server.cli("DBSIZE") == 0


def test_known_holes_are_named(server: RunningServer) -> None:
    found = only(examine(server), "known holes")
    if server.flavour == "valkey-9.1":
        assert found.level is Level.OK
        assert "CVE-2025-49844 (RediShell)" in found.found
        return
    assert found.level is Level.WARN
    assert "CVE-2026-25243, by its number" in found.found
    assert ("RediShell" in found.found) == (server.flavour != "redis-8.2")


@pytest.mark.parametrize("info", [{}, {"redis_version": "managed"}])
def test_holes_of_a_version_that_is_not_told_are_not_known(info: dict[str, str]) -> None:
    assert checks.known_holes(Facts(info, {})).level is Level.UNKNOWN


@pytest.mark.parametrize(
    ("version", "open_count"),
    [
        *(("redis 6.2.14", 4), ("redis 6.2.16", 3), ("redis 6.2.20", 1), ("redis 6.2.22", 0)),
        *(("redis 7.0.15", 4), ("redis 7.2.11", 1), ("redis 7.4.2", 2), ("redis 8.0.4", 1)),
        *(("redis 8.2.1", 2), ("redis 8.2.3", 1), ("redis 8.2.6", 0), ("redis 8.8.0", 0)),
        *(("valkey 7.2.6", 4), ("valkey 8.0.1", 3), ("valkey 8.1.4", 1), ("valkey 8.1.7", 0)),
        *(("valkey 9.0.0", 1), ("valkey 9.0.4", 0), ("valkey 9.1.2", 0)),
    ],
)
def test_a_version_has_the_holes_that_were_mended_later(version: str, open_count: int) -> None:
    build = parse(version)
    assert build is not None
    assert len(open_holes(build)) == open_count


def test_a_lease_without_an_epoch_is_found_and_re_seeded(worked: RunningServer) -> None:
    lease = "fabric:{0}:lease"
    before = int(worked.cli("HGET", lease, "epoch"))
    committed = worked.cli("HGET", lease, "committed")
    worked.cli("HDEL", lease, "epoch", "committed")
    report = examine(worked)
    assert report.exit_code == 1
    assert only(report, "orchestrators").level is Level.FAIL
    assert only(report, "orchestrators").found.startswith("partition 0: the lease has lost its")
    assert only(report, "synthesizers").level is Level.OK
    assert worked.cli("HEXISTS", lease, "epoch") == 0

    report = examine(worked, reseed=True)
    assert report.exit_code == 0
    epoch = int(worked.cli("HGET", lease, "epoch"))
    assert epoch > before
    assert (
        only(report, "re-seeded").found == f"partition 0: orchestrators go on above epoch {epoch}"
    )
    # The position that the lease had lost came from the group.
    assert worked.cli("HGET", lease, "committed") == committed
    assert only(examine(worked, reseed=True), "re-seeded").found.startswith("nothing")
    assert worked.cli("HGET", lease, "epoch") == str(epoch)
    asyncio.run(handle_one_more(worked.url))


async def handle_one_more(url: str) -> None:
    store = RedisStore(url)
    log = store.namespace.partition(0).session("s").log
    count = await store.length(log)
    async with serving(url):
        await store.emit(0, [[b"session", b"s", b"type", b"HEARTBEAT", b"emitter", b"C"]], 10)
        await eventually(lambda: _is_longer(store, log, count))
    await store.close()


async def _is_longer(store: RedisStore, key: str, count: int) -> bool:
    return await store.length(key) > count


@pytest.mark.parametrize(
    "loss", [["DEL", "fabric:{0}:lease"], ["HSET", "fabric:{0}:lease", "epoch", "?"]]
)
def test_an_epoch_that_is_lost_twice_grows_even_if_the_clock_was_set_back(
    worked: RunningServer, loss: list[str]
) -> None:
    ahead = int(time.time() * 1000) + 3_600_000
    worked.cli("HSET", META, "seeded:orchestrators:0", ahead)
    for times in (1, 2):
        expected = ahead + times * (TAKE_OVERS_MAX + 1)
        worked.cli(*loss)
        assert examine(worked).exit_code == 1
        assert examine(worked, reseed=True).exit_code == 0
        assert int(worked.cli("HGET", "fabric:{0}:lease", "epoch")) == expected
        assert worked.cli("HGET", META, "seeded:orchestrators:0") == str(expected)


def test_an_existing_epoch_is_never_replaced(worked: RunningServer) -> None:
    async def reseed() -> None:
        store = RedisStore(worked.url)
        try:
            await store.reseed(0, ORCHESTRATORS)
        finally:
            await store.close()

    with pytest.raises(NotAllowedError, match="has its epoch"):
        asyncio.run(reseed())


def test_signals_that_no_worker_handles_are_reported(worked: RunningServer) -> None:
    worked.cli(
        "XADD", "fabric:{0}:signals", "*", "session", "s", "type", "HEARTBEAT", "emitter", "A"
    )
    found = only(examine(worked), "orchestrators")
    assert found.level is Level.WARN
    assert found.found == "partition 0: nobody works on it, and 1 signals wait"
    assert "`fabric orchestrator`" in found.advice
    now_ms = int(time.time() * 1000)
    worked.cli("ZADD", "fabric:replicas:orchestrators", now_ms + 60_000, "replica-9")
    found = only(examine(worked), "orchestrators")
    assert found.found.endswith("1 signals wait; 1 orchestrators are alive")
    worked.cli("HSET", "fabric:{0}:lease", "owner", "replica-9", "expires", now_ms + 60_000)
    found = only(examine(worked), "orchestrators")
    assert found.level is Level.OK
    assert found.found == "1 of 1 partitions held, by replica-9"


def test_a_server_that_evicts_fails(start: Callable[..., RunningServer]) -> None:
    server = start("redis-7.0", "--maxmemory-policy", "allkeys-lru")
    report = examine(server)
    assert report.exit_code == 1
    assert only(report, "eviction").level is Level.FAIL
    assert "allkeys-lru" in only(report, "eviction").found

    async def admit() -> None:
        store = RedisStore(server.url)
        try:
            await doctor.admit(store)
        finally:
            await store.close()

    with pytest.raises(UnsupportedServerError, match="allkeys-lru"):
        asyncio.run(admit())


def test_a_managed_server_that_refuses_questions_is_not_known(
    start: Callable[..., RunningServer],
) -> None:
    server = start("redis-7.0", "--rename-command", "CONFIG", "")
    report = examine(server)
    assert report.exit_code == 0
    assert only(report, "eviction").level is Level.OK  # from INFO
    server.cli("ACL", "SETUSER", "guest", "on", ">secret", "~*", "&*", "+@all", "-@admin", "-info")
    server.cli("ACL", "SETUSER", "guest", "-command", "-scan")
    report = examine(server, url=server.url.replace("unix://", "unix://guest:secret@"))
    # Workers need SCAN to delete a session; the questions that are refused count for nothing.
    assert [one.check for one in report.findings if one.level is Level.FAIL] == ["commands"]
    assert only(report, "commands").found.startswith("refused: SCAN (")
    for check in ("newer commands", "eviction", "memory", "persistence", "replication"):
        assert only(report, check).level is Level.UNKNOWN, only(report, check)
    assert only(report, "keys").level is Level.UNKNOWN
    assert only(report, "server").found == "unnamed"


def test_commands_that_are_refused_are_named(start: Callable[..., RunningServer]) -> None:
    server = start("redis-7.0", "--rename-command", "XPENDING", "")
    found = only(examine(server), "commands")
    assert found.level is Level.FAIL
    assert found.found.startswith("refused: XPENDING (")
    assert server.cli("DBSIZE") == 0
    server.cli("ACL", "SETUSER", "guest", "on", "nopass", "~*", "+@all", "-@scripting", "-@write")
    found = only(examine(server, url=server.url.replace("unix://", "unix://guest:x@")), "commands")
    assert found.found.startswith("refused: HSETNX, PEXPIRE, EVAL, EVALSHA, RENAME, ")
    assert "EVAL" in found.found


def test_a_missing_permission_is_named_with_its_rule(server: RunningServer) -> None:
    """A part needs it, or only the doctor does; nothing reads as a wrong password."""
    url = server.url.replace("unix://", "unix://guest:x@")
    for form in (*permission.NEEDED, *permission.OTHERS):
        name = scripts.command(*form.split()[:2])
        if "|" in name and server.flavour == "redis-6.2":
            continue  # it cannot refuse a part of a command
        server.cli("ACL", "SETUSER", "guest", "reset", "on", ">x", "~*", "+@all", f"-{name}")
        report = examine(server, url=url)
        found = only(report, "commands")
        assert found.level is (Level.FAIL if form in permission.NEEDED else Level.WARN), form
        assert found.found.startswith(f"refused: {name.upper().replace('|', ' ')} ("), form
        assert f"+{name}" in found.advice or "Lua" in found.advice
        assert not any("password" in one.found + one.advice for one in report.findings)
    assert server.cli("DBSIZE") == 0


def test_a_missing_permission_stops_no_other_check(worked: RunningServer) -> None:
    """What could not be looked at is named, with the rule that allows it."""
    url = worked.url.replace("unix://", "unix://guest:x@")
    last = ("clock", "keys", "orchestrators", "synthesizers", "dead letters")
    for form in (*permission.NEEDED, *permission.OTHERS):
        name = scripts.command(*form.split()[:2])
        if "|" in name and worked.flavour == "redis-6.2":
            continue
        worked.cli("ACL", "SETUSER", "guest", "reset", "on", ">x", "~*", "+@all", f"-{name}")
        report = examine(worked, url=url)
        checks = [one.check for one in report.findings]
        assert set(last) <= set(checks), (form, report.findings)
        assert "finished" not in checks, form
        assert report.exit_code == (1 if form in permission.NEEDED else 0), form
        unknown = [one for one in report.findings if one.level is Level.UNKNOWN]
        assert all(f"+{name}" in one.found for one in unknown), form
        if name in ("hscan", "zcount", "zscan", "xlen", "time", "type", "xinfo|stream", "hmget"):
            assert unknown, form


def test_a_user_without_the_keys_is_told_their_pattern(server: RunningServer) -> None:
    server.cli("ACL", "SETUSER", "guest", "reset", "on", ">x", "~other:*", "+@all")
    found = only(examine(server, url=server.url.replace("unix://", "unix://guest:x@")), "commands")
    assert found.level is Level.FAIL
    assert "no permission for keys such as fabric:doctor:" in found.found
    assert found.advice == "ACL SETUSER … ~fabric:*"


def test_a_server_without_lua_is_reported(start: Callable[..., RunningServer]) -> None:
    renamed = [word for verb in ("EVAL", "EVALSHA") for word in ("--rename-command", verb, "")]
    found = only(examine(start("redis-7.0", *renamed)), "commands")
    assert found.found.startswith("refused: EVAL, EVALSHA (")
    assert "cannot do without Lua" in found.advice


def test_a_server_that_is_down_or_refuses_access(
    start: Callable[..., RunningServer],
) -> None:
    server = start("redis-7.0")
    server.cli("ACL", "SETUSER", "guest", "on", ">x", "+@all", "-ping")
    report = examine(server, url=server.url.replace("unix://", "unix://guest:x@"))
    assert report.exit_code == NotAllowedError.exit_code
    reachable = only(report, "reachable")
    assert "+ping" in reachable.found
    assert "password" not in reachable.found + reachable.advice
    server.cli("CONFIG", "SET", "requirepass", "secret")
    report = examine(server)
    assert report.exit_code == NotAllowedError.exit_code
    assert only(report, "reachable").level is Level.FAIL
    assert "password" in only(report, "reachable").found
    assert "permission" not in only(report, "reachable").found
    server.kill()
    report = examine(server)
    assert report.exit_code == UnreachableError.exit_code
    assert "does the server at there run" in only(report, "reachable").advice


def test_a_wrong_clock_is_reported(server: RunningServer, monkeypatch: pytest.MonkeyPatch) -> None:
    right = time.time
    monkeypatch.setattr("fabric.doctor.server.time.time", lambda: right() - 90)
    found = only(examine(server), "clock")
    assert found.level is Level.WARN
    assert found.found.startswith("the server's is 90")
    assert "ahead of this host's" in found.found


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://me:p@ss@host:6379/2", "redis://host:6379/2"),
        ("rediss://:p%40ss@[::1]:6380", "rediss://[::1]:6380"),
        ("redis://host?password=x&db=3", "redis://host?db=3"),
        ("unix:///tmp/a@b/redis.sock?db=0", "unix:///tmp/a@b/redis.sock?db=0"),
        ("unix://me:secret@/tmp/redis.sock", "unix:///tmp/redis.sock"),
        ("redis://:p/a?s#s@host/1", "redis://host/1"),
    ],
)
def test_a_url_is_shown_without_its_password(url: str, shown: str) -> None:
    assert redacted(url) == shown


@pytest.mark.parametrize(
    ("info", "config", "level", "said"),
    [
        ({}, {"appendonly": "yes", "appendfsync": "always"}, Level.OK, "always: nothing that"),
        ({"aof_enabled": "1"}, {}, Level.OK, "appendfsync not known"),
        ({}, {"appendonly": "yes", "appendfsync": "no"}, Level.WARN, "some 30 seconds"),
        (
            {"rdb_last_save_time": "40", "server_time_usec": "100000000"},
            {"appendonly": "no", "save": "60 1"},
            Level.WARN,
            "60 s ago",
        ),
        ({"aof_enabled": "0"}, {}, Level.WARN, "whether it snapshots is not known"),
        ({}, {"appendonly": "no", "save": ""}, Level.WARN, "NONE: whenever the server ends"),
        ({"aof_last_write_status": "err"}, {"appendonly": "yes"}, Level.FAIL, "could not be wr"),
        ({}, {}, Level.UNKNOWN, "not known"),
    ],
)
def test_persistence_says_what_would_be_lost(
    info: dict[str, str], config: dict[str, str], level: Level, said: str
) -> None:
    found = checks.persistence(Facts(info, config))
    assert found.level is level
    assert said in found.found


@pytest.mark.parametrize(
    ("info", "config", "level"),
    [
        ({"role": "master", "connected_slaves": "0"}, {}, Level.OK),
        ({"role": "master", "connected_slaves": "1"}, {"min-replicas-to-write": "1"}, Level.OK),
        ({"role": "master", "connected_slaves": "1"}, {"min-replicas-to-write": "0"}, Level.WARN),
        ({"role": "slave"}, {}, Level.FAIL),
    ],
)
def test_replication(info: dict[str, str], config: dict[str, str], level: Level) -> None:
    assert checks.replication(Facts(info, config)).level is level


def test_memory_that_runs_out_is_reported() -> None:
    nearly = Facts({"used_memory": "90000000"}, {"maxmemory": "100000000"})
    assert checks.memory(nearly).level is Level.WARN
    assert "90 of 100 MB" in checks.memory(nearly).found
