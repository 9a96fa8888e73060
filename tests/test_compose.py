"""compose.yaml says what the documentation promises. No engine runs here: its form is checked."""

import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
COMPOSE = ROOT / "compose.yaml"

SERVERS = ("redis", "valkey")
WORKERS = ("orchestrator", "synthesizer")


def check_schema(path: Path) -> subprocess.CompletedProcess[str]:
    """Checks a file against the Compose Specification's schema, which check-jsonschema carries."""
    return subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", path],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())["services"]
    return loaded


def test_the_file_keeps_to_the_specification() -> None:
    result = check_schema(COMPOSE)
    assert result.returncode == 0, result.stdout + result.stderr


def test_a_file_that_breaks_the_specification_is_refused(tmp_path: Path) -> None:
    broken = tmp_path / "compose.yaml"
    broken.write_text(COMPOSE.read_text().replace("service_healthy", "service_happy"))
    result = check_schema(broken)
    assert result.returncode == 1
    assert "service_happy" in result.stdout


def test_the_services_are_the_servers_and_the_workers(services: dict[str, Any]) -> None:
    assert set(services) == {*SERVERS, *WORKERS}
    assert services["redis"]["image"] == "redis:8"
    assert services["valkey"]["image"] == "valkey/valkey:8"
    assert services["valkey"]["profiles"] == ["valkey"]
    assert "profiles" not in services["redis"]


@pytest.mark.parametrize("name", SERVERS)
def test_a_server_keeps_what_it_was_told(services: dict[str, Any], name: str) -> None:
    server = services[name]
    command = " ".join(server["command"])
    assert "--appendonly yes" in command
    assert "--maxmemory-policy noeviction" in command
    assert server["healthcheck"]["test"] == ["CMD", f"{name}-cli", "-e", "ping"]
    assert server["volumes"] == [f"{name}-data:/data"]
    assert f"{name}-data" in yaml.safe_load(COMPOSE.read_text())["volumes"]


@pytest.mark.parametrize("name", SERVERS)
def test_a_server_without_a_password_is_on_loopback_only(
    services: dict[str, Any], name: str
) -> None:
    assert all(port.startswith("127.0.0.1:") for port in services[name]["ports"])


@pytest.mark.parametrize("name", WORKERS)
def test_a_worker_waits_for_a_healthy_server(services: dict[str, Any], name: str) -> None:
    worker = services[name]
    assert worker["command"] == [name]
    assert worker["depends_on"]["redis"] == {"condition": "service_healthy"}
    assert worker["depends_on"]["valkey"] == {"condition": "service_healthy", "required": False}
    assert worker["environment"]["FABRIC_REDIS_URL"] == "redis://${FABRIC_SERVER:-redis}:6379/0"


def test_two_orchestrators_stand_in_for_each_other(services: dict[str, Any]) -> None:
    assert services["orchestrator"]["deploy"]["replicas"] == 2


@pytest.mark.parametrize("name", [*SERVERS, *WORKERS])
def test_a_service_ends_in_order_and_comes_back(services: dict[str, Any], name: str) -> None:
    assert services[name]["stop_grace_period"].endswith("s")
    assert services[name]["restart"] == "unless-stopped"


def test_the_image_runs_the_workers_as_a_user_without_rights() -> None:
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    assert "FROM python:3.11-slim" in lines
    assert "RUN pip install --no-deps ." in lines
    assert 'ENTRYPOINT ["python", "-m", "workers"]' in lines
    assert lines.index("USER fabric") > lines.index("RUN pip install --no-deps .")


def test_the_image_installs_what_the_lock_file_names_and_nothing_else() -> None:
    install = "RUN pip install --require-hashes -r requirements.lock"
    assert install in (ROOT / "Dockerfile").read_text().splitlines()
    lock = (ROOT / "requirements.lock").read_text().replace("\\\n", " ")
    locked = {}
    for line in lock.splitlines():
        if not line.startswith("#"):
            assert "--hash=sha256:" in line
            pinned = Requirement(line.partition("--hash")[0].strip())
            locked[pinned.name] = pinned.specifier
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for wanted in map(Requirement, project["dependencies"]):
        (version,) = (one.version for one in locked[wanted.name])
        assert wanted.specifier.contains(version), wanted


def test_the_build_gets_what_the_image_copies() -> None:
    sent = (ROOT / ".dockerignore").read_text().splitlines()
    copied = [
        source
        for line in (ROOT / "Dockerfile").read_text().splitlines()
        if line.startswith("COPY ")
        for source in line.split()[1:-1]
    ]
    assert sorted(f"!{source}" for source in copied) == sorted(
        line for line in sent if line.startswith("!")
    )
