"""`fabric up --listen` and `fabric init --server`: two hosts, as far as two states are."""

import shlex
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from tests.support.forked import Forked
from tests.support.shell import Shell, end
from tests.support.waiting import until


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[tuple[Shell, Shell]]:
    """Two shells that share nothing: the one with the server, and another host."""
    shells = []
    for name in ("a", "b"):
        home = tmp_path / name
        home.mkdir()
        shell = Shell(home)
        shell.variables["XDG_STATE_HOME"] = str(tmp_path / f"{name}s")
        shells.append(shell)
    yield shells[0], shells[1]
    for shell in shells:
        shell.close()


def up(shell: Shell, *flags: str) -> tuple[Forked, str]:
    """Start `fabric up --listen`; return it and the URL of the line that it prints."""
    process = shell.start("up", "--listen", "127.0.0.1:0", *flags)
    assert process.stderr is not None
    for line in process.stderr:
        if "init --server" in line:
            return process, shlex.split(line)[-1]
    raise AssertionError("it printed no line to join")


@pytest.mark.slow
def test_another_host_joins_by_the_line_that_is_printed(hosts: tuple[Shell, Shell]) -> None:
    here, there = hosts
    process, url = up(here)
    assert url.startswith("rediss://")
    joined = there.run("init", "--server", url)
    assert joined.code == 0, joined
    password = unquote(urlsplit(url).password or "")
    assert password not in joined.err
    (path,) = Path(there.variables["XDG_STATE_HOME"]).rglob("joined")
    assert path.stat().st_mode & 0o777 == 0o600
    assert str(path) in joined.err
    signal = ("-s", "demo", "-a", "B")
    assert there.run("emit", "PROGRESS(25%)", *signal, "--confirm").code == 0
    assert "B" in here.run("status", "demo").out
    until(lambda: "B" in there.run("status", "demo").out)
    # Others that can read the file: it counts for nothing.
    path.chmod(0o644)
    assert there.run("status", "demo").code == 2
    path.chmod(0o600)
    assert there.run("init", "--undo").code == 0
    assert there.run("status", "demo").code == 2
    # The password stays: those who have joined need not join again.
    process.terminate()
    end(process)
    process, again = up(here)
    assert urlsplit(again).password == urlsplit(url).password
    process.terminate()
    assert end(process).code == 0


@pytest.mark.slow
def test_nothing_is_done_before_the_password(hosts: tuple[Shell, Shell]) -> None:
    here, _ = hosts
    process, url = up(here)
    place = urlsplit(url)
    context = ssl.create_default_context(cadata=parse_qs(place.query)["ssl_ca_data"][0])
    context.check_hostname = False
    address = ("127.0.0.1", place.port or 0)

    def say(*commands: bytes) -> bytes:
        with context.wrap_socket(socket.create_connection(address, 30)) as link:
            link.sendall(b"".join(commands))
            link.settimeout(30)
            return link.recv(4096)

    good = _command("AUTH", unquote(place.password or ""))
    assert say(_command("PING")).startswith(b"-NOAUTH")
    assert say(_command("AUTH", "wrong"), _command("PING")).startswith(b"-WRONGPASS")
    assert say(_command("AUTH", "default", "wrong")).startswith(b"-WRONGPASS")
    assert say(_command("HELLO", "3", "AUTH", "default", "wrong")).startswith(b"-WRONGPASS")
    assert say(good).startswith(b"+OK")
    for nonsense in (b"PING\r\n", b"*1\r\n$99999\r\n", b"*-1\r\n", b"\xff" * 5000, b"*1\r\n$x\r\n"):
        assert say(nonsense) == b""
    with pytest.raises(ssl.SSLError):  # another certificate is not taken
        ssl.create_default_context().wrap_socket(
            socket.create_connection(address, 30), server_hostname="localhost"
        )
    process.terminate()
    end(process)


@pytest.mark.slow
def test_without_tls_only_if_told_so(hosts: tuple[Shell, Shell], tmp_path: Path) -> None:
    here, there = hosts
    (tmp_path / "bin").mkdir()
    done = here.run("up", "--listen", "0", PATH=str(tmp_path / "bin"))
    assert (done.code, "--no-tls" in done.err) == (2, True), done
    process, url = up(here, "--no-tls")
    assert url.startswith("redis://")
    assert there.run("init", "--server", url).code == 0
    process.terminate()
    assert "all on the way can read" in end(process).err


def test_what_cannot_be_joined_is_refused(lone: Shell) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    done = lone.run("init", "--server", f"redis://:secret@127.0.0.1:{port}")
    assert (done.code, "secret" in done.err) == (6, False)
    assert lone.run("init", "--server", "nonsense").code == 2
    assert lone.run("init", "--server", "redis://x", "--user").code == 2
    assert lone.run("up", "--listen", "x").code == 2
    assert lone.run("up", "--no-tls").code == 2
    other = lone.run("up", "--listen", "0", FABRIC_REDIS_URL="redis://127.0.0.1:1")
    assert (other.code, "private server" in other.err) == (2, True)


def _command(*words: str) -> bytes:
    parts = "".join(f"${len(word.encode())}\r\n{word}\r\n" for word in words)
    return f"*{len(words)}\r\n{parts}".encode()
