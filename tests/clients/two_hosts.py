"""The collision over two hosts and one server; one host's link is cut for 30 s in the middle.

    python -m tests.clients.two_hosts               needs root and iproute2

Hosts are network namespaces, joined by veth. Each has its own clone of the project and its own
agent daemon, and two of the four clients; all four add a line to each of the same files. They wait
before the second half of the files until the link of `away` is cut, and before the last quarter
until it is back. Then the two clones are merged, file by file: an edit is lost if its line is not
in the merge. What the clients on `away` have written during the cut must be in the log at the end,
as an INTENT or as a conflict. The table goes to stdout as Markdown.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

from fabric import SyncFabric
from fabric.agents import dialect
from fabric.agents.event import WRITES, Moment
from fabric.agents.spool import Spool
from fabric.wire.stored import text_fields_of
from tests.clients.bench import PROGRAMS, Bench
from tests.clients.collision import FILES, MEET_S, ROUND_S, left_over, refusals, scripted
from tests.clients.scripted_model import Model
from tests.hosts.network import Host, environment, missing, network
from tests.support.servers import FLAVOUR_DEFAULT, ROOT, binary
from tests.support.waiting import until

#: Seconds of the cut.
CUT_S = 30.0

#: The host whose link is cut, and the other one; which clients work where.
CREWS = {"away": ("claude", "opencode"), "near": ("codex", "gemini")}

#: Seconds for the clients to come to the cut, and for what was kept to arrive after it.
STEP_S = 240.0


class Outcome(NamedTuple):
    """What a run has shown."""

    edits: int
    lost: list[str]
    #: Lines that were written during the cut: host → number.
    meanwhile: dict[str, int]
    #: Writes that were kept on `away` at the end of the cut, and those of them that have not come.
    kept: int
    never_came: list[str]
    refusals: Counter[str]
    failed: list[str]
    seconds: float

    @property
    def is_well(self) -> bool:
        """Whether nothing was lost, all went on, and every refusal was explained."""
        is_whole = not (self.lost or self.never_came or self.failed)
        return is_whole and all(self.meanwhile.values()) and not self.refusals["not explained"]


class Fleet:
    """A server, and two hosts with their clients, until the block ends."""

    def __init__(self, hosts: dict[str, Host], folder: Path, stack: ExitStack, files: int) -> None:
        self._hosts, self._folder = hosts, folder
        self.names = [f"file{index}.txt" for index in range(files)]
        self.crews = {
            name: [one for one in crew if PROGRAMS[one].exists()] for name, crew in CREWS.items()
        }
        self.url = f"unix://{folder}/redis.sock"
        self._serve(stack)
        self.benches: dict[str, Bench] = {}
        self.cut, self.back = threading.Event(), threading.Event()
        address = f"redis://{hosts['server'].address}:6379"
        for name in self.crews:
            made = hosts[name].within(partial(Model, folder / name / "scripts", MEET_S))
            model = stack.enter_context(made)
            bench = Bench(folder / name / "bench", model, address, through=hosts[name].through())
            stack.callback(bench.close)
            for index, one in enumerate(self.names):
                (bench.project / one).write_text(base(index))
            for late, gate in ((files // 2, self.cut), (3 * files // 4, self.back)):
                model.gates |= {str(bench.project / one): gate for one in self.names[late:]}
            scripted(bench, self.crews[name], 0, self.names)
            self.benches[name] = bench

    def _serve(self, stack: ExitStack) -> None:
        given = environment(binary(FLAVOUR_DEFAULT))
        given |= {"PYTHONPATH": str(ROOT), "FABRIC_CONFIG": "/dev/null", "FABRIC_LEASE_MS": "5000"}
        given["FABRIC_REDIS_URL"] = self.url
        socket, log = self._folder / "redis.sock", self._folder / "server.log"
        flags = f"--bind 0.0.0.0 --protected-mode no --unixsocket {socket} --dir {self._folder}"
        words = self._hosts["server"].through()
        with log.open("ab") as out:
            for line in (f"redis-server {flags}", "python -m workers orchestrator"):
                process = subprocess.Popen(
                    [*words, *line.split()],
                    env=given, stdout=out, stderr=out, stdin=subprocess.DEVNULL,
                )  # fmt: skip
                stack.callback(_kill, process)
                until(socket.exists, log.read_text)
        until(lambda: "serving namespace fabric" in log.read_text(), log.read_text)

    def lines(self, host: str) -> list[str]:
        """Return the lines of a host's own clients that are in its clone."""
        project = self.benches[host].project
        found = [line for one in self.names for line in (project / one).read_text().split()]
        return [line for line in found if line.split("-")[1] in self.crews[host]]

    def edits(self) -> list[str]:
        """Return all lines that are to be written."""
        count = range(len(self.names))
        clients = [one for crew in self.crews.values() for one in crew]
        return [f"line-{one}-r0-f{index}" for one in clients for index in count]

    def merged(self) -> str:
        """Return both clones, merged as git does that with `merge=union`."""
        found = []
        for index, one in enumerate(self.names):
            (self._folder / "base").write_text(base(index))
            sides = [str(bench.project / one) for bench in self.benches.values()]
            words = ["git", "merge-file", "-p", "--union", sides[0], "base", sides[1]]
            done = subprocess.run(
                words, cwd=self._folder, stdout=subprocess.PIPE, check=True, text=True
            )
            found.append(done.stdout)
        return "".join(found)

    def kept(self, host: str) -> list[tuple[str, str]]:
        """Return the writes that a host's daemon keeps: agent and file."""
        found = []
        for _, asked in Spool(self.benches[host].agentd / "spool").kept():
            event = dialect.read(asked.head["harness"], asked.body, asked.cwd)
            if event and event.moment is Moment.AFTER_TOOL and event.action in WRITES:
                name = asked.agent(event.harness, event.session_id)
                found += [(name, Path(path).name) for path in event.paths]
        return found

    def reported(self, since: bytes) -> set[tuple[str, str]]:
        """Return the writes that the log holds from an entry on: agent and file."""
        found = set()
        with SyncFabric.connect(self.url, session="demo") as fabric:
            for entry, flat in fabric.session().log():
                fields = text_fields_of(flat)
                if _time(entry) < _time(since):
                    continue
                given = json.loads(fields.get("payload") or "{}")
                if fields.get("type") in ("INTENT", "CONFLICT_DETECTED"):
                    names = [*given.get("writes", []), *given.get("resources", [])]
                    found |= {(fields.get("emitter", ""), one) for one in names}
        return found

    def last(self) -> bytes:
        """Return the id of the last entry of the log."""
        with SyncFabric.connect(self.url, session="demo") as fabric:
            return [*fabric.session().log()][-1][0]


def _time(entry: bytes) -> tuple[int, int]:
    ms, _, number = entry.partition(b"-")
    return int(ms), int(number)


def _kill(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


def base(index: int) -> str:
    """Return what a file has at first."""
    return f"line-base-r0-f{index}\n"


@contextmanager
def fleet(files: int) -> Iterator[tuple[Fleet, Host]]:
    """Make the hosts; yield them at work, and the one to be cut."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fab-")))
        names = ("server", *CREWS)
        hosts = stack.enter_context(network(names, folder / "hosts", {}))
        yield Fleet(hosts, folder, stack, files), hosts["away"]


def measure(files: int = FILES, cut_s: float = CUT_S) -> Outcome:
    """Run it once."""
    with fleet(files) as (running, away):
        began = time.monotonic()
        started = {
            client: running.benches[host].start(client, f"{client}0", client.upper())
            for host, crew in running.crews.items()
            for client in crew
        }
        half = files // 2

        def is_at_cut() -> bool:
            return all(
                len(running.lines(host)) >= half * len(crew) for host, crew in running.crews.items()
            )

        until(is_at_cut, lambda: f"half is done: {running.merged()}", STEP_S)
        before = {host: len(running.lines(host)) for host in running.crews}
        since = running.last()
        away.cut()
        running.cut.set()
        time.sleep(cut_s)
        meanwhile = {host: len(running.lines(host)) - before[host] for host in running.crews}
        kept = running.kept("away")
        away.join()
        running.back.set()
        failed = []
        for client, process in started.items():
            try:
                if process.wait(max(1.0, ROUND_S - (time.monotonic() - began))):
                    failed.append(client)
            except subprocess.TimeoutExpired:
                failed.append(client)
        until(lambda: not running.kept("away"), "what was kept is handled", STEP_S)
        assert not (left := left_over(running.url)), left
        merged, reported = running.merged(), running.reported(since)
        found: Counter[str] = Counter()
        for bench in running.benches.values():
            found += refusals(bench.model)
        edits = running.edits()
    return Outcome(
        edits=len(edits),
        lost=[line for line in edits if line not in merged.split()],
        meanwhile=meanwhile,
        kept=len(kept),
        never_came=[f"{agent} {one}" for agent, one in kept if (agent, one) not in reported],
        refusals=found,
        failed=failed,
        seconds=time.monotonic() - began,
    )


def main() -> int:
    """Run it, and print the table; return 1 if something was not well."""
    parser = argparse.ArgumentParser(description="Two hosts, one server, and a cut link.")
    parser.add_argument("--files", type=int, default=FILES)
    parser.add_argument("--cut", type=float, default=CUT_S, help="seconds")
    parser.add_argument("--rounds", type=int, default=1)
    chosen = parser.parse_args()
    if why := missing():
        sys.exit(why)
    is_well = True
    sys.stdout.write(
        "| edits | lost | written meanwhile | kept, and then reported | refusals | failed | s |\n"
        "|---|---|---|---|---|---|---|\n"
    )
    for _ in range(chosen.rounds):
        found = measure(chosen.files, chosen.cut)
        is_well = is_well and found.is_well
        meanwhile = ", ".join(f"{count} on {host}" for host, count in found.meanwhile.items())
        said = ", ".join(f"{count} {why}" for why, count in found.refusals.items() if count)
        sys.stdout.write(
            f"| {found.edits} | {len(found.lost)} | {meanwhile} | {found.kept}, "
            f"{found.kept - len(found.never_came)} | {said or 'none'} | {len(found.failed)} "
            f"| {found.seconds:.0f} |\n"
        )
        sys.stdout.flush()
        sys.stderr.write(f"{found}\n")
    return int(not is_well)


if __name__ == "__main__":
    sys.exit(main())
