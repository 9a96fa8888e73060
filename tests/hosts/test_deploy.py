"""docs/deploy.md to the letter, on four hosts: TLS, passwords and ACL, from nothing to a fleet."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hosts.network import Host, environment, missing, network
from tests.support.servers import FLAVOUR_DEFAULT, binary
from tests.support.waiting import until

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "deploy.md").read_text()

#: A section of the page → its blocks of shell commands.
BLOCKS = {
    part.partition("\n")[0][:1]: re.findall(r"```sh\n(.*?)```", part, re.DOTALL)
    for part in PAGE.split("\n## ")[1:]
}

pytestmark = pytest.mark.slow


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[dict[str, Host]]:
    if why := missing():
        pytest.skip(why)
    names = ("server", "one", "two", "agents")
    with network(names, tmp_path / "hosts", {"redis.example": "server"}) as made:
        yield made


def test_from_nothing_to_a_fleet(hosts: dict[str, Host], tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    given = environment(binary(FLAVOUR_DEFAULT)) | {"KIT": str(ROOT / "docs" / "deploy")}

    def run(host: str, script: str) -> str:
        return hosts[host].run(script, folder=work, environment=given)

    run("agents", BLOCKS["1"][0])
    run("server", BLOCKS["2"][0])
    until(lambda: "PONG" in run("server", f"{BLOCKS['2'][1].strip()} || true"))
    logs = {name: tmp_path / f"{name}.log" for name in ("one", "two")}
    for name, log in logs.items():
        script = BLOCKS["3"][0] + "wait\n"
        hosts[name].start(script, folder=work, environment=given, log=log)

    def said() -> str:
        return "".join(log.read_text() for log in logs.values())

    until(lambda: said().count("serving namespace fabric") == 4, said)
    run("agents", BLOCKS["4"][0])
    as_agent = "export FABRIC_REDIS_URL_FILE=/etc/signal-fabric/agent-url FABRIC_SESSION=sprint\n"
    until(lambda: "PROCEED" in run("agents", as_agent + "fabric inbox --peek --agent agents"), said)
    setting, workers, doctor, status = BLOCKS["5"][0].strip().splitlines()
    found = json.loads(run("agents", f"{setting}\n{workers} --json"))["workers"]
    assert sorted((one["group"], one["host"]) for one in found) == [
        (group, host) for group in ("orchestrators", "synthesizers") for host in ("one", "two")
    ]
    assert len({one["build"] for one in found}) == 1
    assert "fail" not in run("agents", f"{setting}\n{doctor}")
    assert "agents" in run("agents", f"{setting}\n{status}")

    # One worker host is cut off; the other one serves, and nothing waits.
    hosts["one"].cut()
    run("agents", f"{as_agent}fabric emit 'PROGRESS(50%)' --agent agents --confirm")
    hosts["one"].join()


def test_the_users_may_do_what_the_documentation_says(
    hosts: dict[str, Host], tmp_path: Path
) -> None:
    """The agents' password is not the workers': nobody deletes a session or shuts down with it."""
    work = tmp_path / "work"
    work.mkdir()
    given = environment(binary(FLAVOUR_DEFAULT)) | {"KIT": str(ROOT / "docs" / "deploy")}

    def run(script: str) -> str:
        return hosts["server"].run(script, folder=work, environment=given)

    run(BLOCKS["1"][0])
    run(BLOCKS["2"][0])
    cli = "redis-cli --tls --cacert secrets/ca.pem -h redis.example"
    until(lambda: "PONG" in run(f"{BLOCKS['2'][1].strip()} || true"))
    assert "NOAUTH" in run(f"{cli} ping 2>&1 || true")
    for command in (
        "DEL fabric:meta",
        "FLUSHALL",
        "CONFIG GET *",
        "SHUTDOWN",
        "XDEL fabric:{0}:dead 1-1",
    ):
        refused = run(
            f"REDISCLI_AUTH=$(cat secrets/agent-password) {cli} --user agent {command} 2>&1 || true"
        )
        assert "NOPERM" in refused, command
