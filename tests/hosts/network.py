"""Hosts made from network namespaces, joined by a switch; needs root and iproute2."""

import ctypes
import fcntl
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from tests.hosts.relay import Relay

_T = TypeVar("_T")

#: Folders that each host has for itself.
OWN = ("/etc/signal-fabric", "/var/lib/signal-fabric")

#: The program; None where there is none.
IP = shutil.which("ip")

#: Names those of them that were made on this machine, to mount over; locked by all who use them.
POINTS = Path("/run/fabric-hosts")

#: <sched.h>
CLONE_NEWNET = 0x40000000

#: Longest time of one command, s.
LIMIT_S = 120


def missing() -> str:
    """Say what is missing for making hosts; "" when nothing is."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if IP is None:
        return "no ip (iproute2)"
    name = f"fabric-try-{os.getpid()}"
    try:
        _ip("netns", "add", name)
    except subprocess.CalledProcessError as error:
        return f"no network namespace can be made: {error.stderr.decode().strip()}"
    _ip("netns", "del", name)
    return ""


def _ip(*words: str, namespace: str = "") -> str:
    inside = ("-n", namespace) if namespace else ()
    done = subprocess.run(
        [str(IP), *inside, *words], check=True, capture_output=True, timeout=LIMIT_S
    )
    return done.stdout.decode()


class Host:
    """One host: commands run in its network, with its name and its own files."""

    def __init__(self, name: str, namespace: str, address: str, folder: Path) -> None:
        self.name = name
        self.namespace = namespace
        self.address = address
        self._folder = folder
        self._started: list[subprocess.Popen[bytes]] = []
        for own in OWN:
            (folder / own.lstrip("/")).mkdir(parents=True)

    def _words(self, script: str) -> list[str]:
        mounts = "".join(
            f"mount --bind '{self._folder / own.lstrip('/')}' {own} && " for own in OWN
        )
        inside = f'{mounts}hostname {self.name} && exec bash -euo pipefail -c "$SCRIPT"'
        return [
            *("ip", "netns", "exec", self.namespace, "unshare", "--uts", "--mount"),
            *("env", f"SCRIPT={script}", "sh", "-c", inside),
        ]

    def run(self, script: str, *, folder: Path, environment: dict[str, str]) -> str:
        """Run shell commands; return what they print. Fails with all that they said."""
        done = subprocess.run(
            self._words(script), cwd=folder, env=environment, text=True, check=False,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
            timeout=LIMIT_S,
        )  # fmt: skip
        assert done.returncode == 0, f"{self.name}: {script}\n{done.stdout}"
        return done.stdout

    def start(self, script: str, *, folder: Path, environment: dict[str, str], log: Path) -> None:
        """Run shell commands in the background, until the network ends."""
        with log.open("ab") as out:
            self._started.append(
                subprocess.Popen(
                    self._words(script),
                    cwd=folder,
                    env=environment,
                    stdout=out,
                    stderr=out,
                    stdin=subprocess.DEVNULL,
                    start_new_session=True,
                )
            )

    def through(self) -> tuple[str, ...]:
        """Return the words before a program that runs on this host, as the process that is started.

        It sees the files of this machine.
        """
        named = f'hostname {self.name} && exec "$@"'
        enter = ("ip", "netns", "exec", self.namespace)
        return (*enter, "unshare", "--uts", "--mount", "sh", "-c", named, "sh")

    def within(self, make: Callable[[], _T]) -> _T:
        """Make something in a thread of this host's network: its sockets stay there."""

        def enter() -> _T:
            libc = ctypes.CDLL(None, use_errno=True)
            with Path("/run/netns", self.namespace).open() as network:
                if libc.setns(network.fileno(), CLONE_NEWNET):
                    raise OSError(ctypes.get_errno(), "setns")
            return make()

        with ThreadPoolExecutor(1) as thread:
            return thread.submit(enter).result()

    def cut(self) -> None:
        """Take the host off the network."""
        _ip("link", "set", "eth0", "down", namespace=self.namespace)

    def join(self) -> None:
        """Put it back."""
        _ip("link", "set", "eth0", "up", namespace=self.namespace)

    def freeze(self) -> None:
        """Stop everything that runs there; its connections stay."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        for pid in _ip("netns", "pids", self.namespace).split():
            with suppress(ProcessLookupError):
                os.kill(int(pid), number)

    def end(self) -> None:
        """Kill everything that runs there."""
        self._signal(signal.SIGKILL)
        for process in self._started:
            process.wait(LIMIT_S)


@contextmanager
def _points() -> Iterator[None]:
    """Have folders on this machine to mount over; the last of several users removes them."""
    with POINTS.open("a+") as made:
        fcntl.flock(made, fcntl.LOCK_SH)
        for own in OWN:
            if not Path(own).exists():
                made.write(f"{own}\n")
                made.flush()
                Path(own).mkdir(parents=True, exist_ok=True)
        try:
            yield
        finally:
            with suppress(OSError):  # others use them still
                fcntl.flock(made, fcntl.LOCK_EX | fcntl.LOCK_NB)
                made.seek(0)
                for own in made.read().splitlines():
                    with suppress(OSError):
                        Path(own).rmdir()
                made.truncate(0)


@contextmanager
def network(
    names: Sequence[str], folder: Path, aliases: dict[str, str], relay: Relay | None = None
) -> Iterator[dict[str, Host]]:
    """Make hosts on one switch, the kernel's or `relay`; `aliases` are more names: name → host."""
    tag = f"fabric{os.getpid()}"
    switch = f"{tag}-switch"
    made: list[str] = []
    hosts: dict[str, Host] = {}
    with _points(), ExitStack() as ending:
        ending.callback(_end, hosts, made)
        _ip("netns", "add", switch)
        made.append(switch)
        _ip("link", "add", "sw0", "type", "bridge", namespace=switch)
        _ip("link", "set", "sw0", "up", namespace=switch)
        addresses = {name: f"10.77.0.{number}" for number, name in enumerate(names, 1)}
        lines = [f"{address} {name}" for name, address in addresses.items()]
        lines += [f"{addresses[host]} {alias}" for alias, host in aliases.items()]
        for number, name in enumerate(names, 1):
            namespace = f"{tag}-{name}"
            _ip("netns", "add", namespace)
            made.append(namespace)
            own = Path("/etc/netns", namespace)
            own.mkdir(parents=True)
            (own / "hosts").write_text("\n".join(["127.0.0.1 localhost", *lines, ""]))
            port = f"sw{number}"
            if relay is not None:
                device = f"fab{os.getpid() % 100_000}-{number}"
                relay.device(device, name, addresses[name])
                _ip("link", "set", device, "netns", namespace, "name", "eth0")
            else:
                _ip("link", "add", port, "type", "veth", "peer", "name", "eth0", "netns",
                    namespace, namespace=switch)  # fmt: skip
                _ip("link", "set", port, "master", "sw0", "up", namespace=switch)
            _ip("link", "set", "lo", "up", namespace=namespace)
            _ip("address", "add", f"{addresses[name]}/24", "dev", "eth0", namespace=namespace)
            _ip("link", "set", "eth0", "up", namespace=namespace)
            hosts[name] = Host(name, namespace, addresses[name], folder / name)
        yield hosts


def _end(hosts: dict[str, Host], made: list[str]) -> None:
    for host in hosts.values():
        host.end()
    for namespace in made:
        _ip("netns", "del", namespace)
        shutil.rmtree(Path("/etc/netns", namespace), ignore_errors=True)


def environment(server: Path) -> dict[str, str]:
    """Return variables for commands on a host: this Python and this server come first on PATH."""
    return {
        "PATH": f"{server.parent}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": os.environ.get("HOME", "/root"),
        "LANG": "C.UTF-8",
    }
