"""`fabric doctor`: its output, its exit code, and its checks beside the server."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.up_process import project, up
from tests.support.project_member import is_gone
from tests.support.servers import RunningServer
from tests.support.shell import Done, Shell
from tests.support.waiting import until

pytestmark = pytest.mark.server


@pytest.fixture
def here(lone: Shell) -> Iterator[Shell]:
    with project(lone) as found:
        yield found


def check(done: Done, name: str) -> dict[str, Any]:
    (found,) = [one for one in done.json["checks"] if one["check"] == name]
    assert isinstance(found, dict)
    return found


def test_a_healthy_server(quiet: Shell, server: RunningServer) -> None:
    done = quiet.good("doctor", "--json")
    assert done.json["ok"] is True
    assert check(done, "reachable")["found"] == server.url
    assert {one["level"] for one in done.json["checks"]} <= {"ok", "warn"}
    assert check(done, "persistence")["level"] == "warn"
    done = quiet.good("doctor")
    assert done.lines[-1].split() == ["ok", "dead", "letters", "none"]
    assert "→ CONFIG SET appendonly yes" in done.out


def test_a_server_that_may_evict(quiet: Shell, server: RunningServer) -> None:
    server.cli("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    done = quiet.run("doctor", "--json")
    server.cli("CONFIG", "SET", "maxmemory-policy", "noeviction")
    assert done.code == 1
    assert done.json["ok"] is False
    assert check(done, "eviction")["level"] == "fail"


def test_a_tampered_key_and_a_lost_epoch(quiet: Shell, server: RunningServer) -> None:
    prefix = quiet.variables["FABRIC_NAMESPACE"]
    server.cli("HSET", f"{prefix}:meta", "schema", 1, "partitions", 1)
    server.cli("HSET", f"{prefix}:{{0}}:lease", "owner", "x", "expires", 1, "version", 3)
    done = quiet.run("doctor", "--json")
    assert done.code == 1
    assert check(done, "orchestrators")["level"] == "fail"
    assert "--reseed" in check(done, "orchestrators")["advice"]
    done = quiet.good("doctor", "--reseed", "--json")
    epoch = server.cli("HGET", f"{prefix}:{{0}}:lease", "epoch")
    assert check(done, "re-seeded")["found"].endswith(f"above epoch {epoch}")
    assert check(quiet.good("doctor", "--json"), "orchestrators")["level"] == "ok"

    server.cli("SET", f"{prefix}:{{0}}:s:agents", "\x1b[31mred")
    done = quiet.run("doctor")
    assert done.code == 1
    assert f"{prefix}:{{0}}:s:agents: is a string, the fabric keeps a hash there" in done.out
    assert "\x1b" not in done.out


def test_no_server(here: Shell) -> None:
    done = here.run("doctor", "--json")
    assert done.code == 6
    assert check(done, "private server")["found"].startswith("none runs; `fabric up` would start")
    assert "`fabric up`" in check(done, "reachable")["advice"]
    done = here.run("doctor", "--json", FABRIC_REDIS_URL="unix://me:topsecret@/nowhere/redis.sock")
    assert done.code == 6
    assert check(done, "reachable")["level"] == "fail"
    assert "topsecret" not in done.out + done.err


@pytest.mark.slow
def test_a_private_server_in_use_and_left_behind(here: Shell) -> None:
    with up(here) as running:
        running.handle()
        done = here.good("doctor", "--json")
        assert check(done, "private server")["level"] == "ok"
        assert f"used by {running.process.pid}" in check(done, "private server")["found"]
        assert check(done, "orchestrators")["found"].startswith("1 of 1 partitions held, by ")
        assert check(done, "keys")["level"] == "ok"
        assert check(done, "persistence")["level"] == "ok"
        running.kill()
        until(lambda: all(map(is_gone, running.workers.values())), "the workers notice")
        done = here.good("doctor", "--json")
        assert check(done, "private server")["level"] == "warn"
        assert "`fabric down`" in check(done, "private server")["advice"]


OURS = "#!/usr/bin/python3\nfrom fabric.cli import main\nmain()\n"
THEIRS = "#!/usr/bin/python3\nfrom fabric.main import program\nprogram.run()\n"


@pytest.mark.parametrize(("script", "level"), [(OURS, "ok"), (THEIRS, "warn")])
def test_another_program_called_fabric(
    here: Shell, tmp_path: Path, script: str, level: str
) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "fabric").write_text(script)
    (folder / "fabric").chmod(0o755)
    done = here.run("doctor", "--json", PATH=f"{folder}{os.pathsep}{os.environ['PATH']}")
    found = check(done, "program")
    assert found["level"] == level
    assert str(folder / "fabric") in found["found"]
    assert ("`signal-fabric`" in found["advice"]) is (level == "warn")


def test_another_distribution_with_a_package_called_fabric(here: Shell, tmp_path: Path) -> None:
    other = tmp_path / "site" / "fabric-3.2.2.dist-info"
    other.mkdir(parents=True)
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: fabric\nVersion: 3.2.2\n")
    (other / "top_level.txt").write_text("fabric\n")
    found = check(here.run("doctor", "--json", PYTHONPATH=str(other.parent)), "program")
    assert found["level"] == "warn"
    assert found["found"].startswith("fabric is installed here too")
