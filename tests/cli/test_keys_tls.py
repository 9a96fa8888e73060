"""`fabric keys` on a server with TLS and users: each line works as it is printed."""

import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.fixtures import start_or_fail
from tests.support.servers import FLAVOUR_DEFAULT, binary
from tests.support.shell import Shell, end
from tests.support.waiting import until

PASSWORD = "se cret#1"


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
        return port


@pytest.fixture
def secured(lone: Shell, tmp_path: Path) -> Iterator[Shell]:
    """A shell whose server takes no connection without TLS and a password, and is served."""
    folder = tmp_path / "with space"
    folder.mkdir()
    certificate, key, port = folder / "cert.pem", folder / "key.pem", free_port()
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-days", "2", "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
            *("-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    server = start_or_fail(
        FLAVOUR_DEFAULT,
        *("--tls-port", str(port), "--tls-auth-clients", "no"),
        *("--tls-cert-file", str(certificate), "--tls-key-file", str(key)),
        *("--tls-ca-cert-file", str(certificate)),
    )
    server.cli("ACL", "SETUSER", "fleet", "on", f">{PASSWORD}", "~*", "&*", "+@all")
    quoted = PASSWORD.replace(" ", "%20").replace("#", "%23")
    lone.variables |= {
        "FABRIC_REDIS_URL": f"rediss://fleet:{quoted}@localhost:{port}?ssl_ca_certs={certificate}",
        "FABRIC_SESSION": "demo",
        "FABRIC_AGENT": "A",
    }
    process = lone.start("orchestrator", "--name", "the-one")
    try:
        until(lambda: server.cli("HGET", "fabric:{0}:lease", "owner") == "the-one")
        yield lone
        process.terminate()
        assert end(process).code == 0
    finally:
        server.remove()


@pytest.mark.slow
def test_each_line_works_as_printed(secured: Shell) -> None:
    secured.good("emit", "STARTED", "--confirm")
    done = secured.run("keys", "demo")
    assert done.err == "fabric: put the password into REDISCLI_AUTH\n"
    assert PASSWORD not in done.out
    found = {}
    for line in done.lines:
        path = f"{binary(FLAVOUR_DEFAULT).parent}{os.pathsep}{os.environ['PATH']}"
        said = subprocess.run(
            ["/bin/sh", "-c", line],
            env={"PATH": path, "REDISCLI_AUTH": PASSWORD},
            capture_output=True,
            text=True,
            check=True,
        )
        assert "ERR" not in said.stdout + said.stderr, line
        found[line.rpartition("# ")[2]] = said.stdout
    assert any("STARTED" in printed for printed in found.values())
