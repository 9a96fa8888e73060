"""The program itself: its imports, its exit codes, and that it prints no password."""

import json
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from fabric import __version__
from fabric.cli import GROUPS, program
from tests.support.servers import ROOT, RunningServer
from tests.support.shell import Shell, end, is_following
from tests.support.waiting import until

COMMANDS = [name for commands in GROUPS.values() for name in commands]

#: Runs the command line in this process, then writes to stderr what it has imported.
IMPORTS = """
import json, sys
from fabric.cli import main
sys.argv[0] = "fabric"
code = main()
sys.stderr.write(json.dumps(sorted({*sys.modules})))
sys.exit(code)
"""


def imported(shell: Shell, *words: str, **more: str) -> set[str]:
    """All that a command imports."""
    done = shell.run(*words, program=IMPORTS, **more)
    assert done.code == 0, done
    return {name.partition(".")[0] for name in json.loads(done.err)}


def test_help_names_every_command_in_order(lone: Shell) -> None:
    done = lone.good("--help")
    named = [line.split()[0] for line in done.lines if line.startswith("  ")]
    assert [name for name in named if name in COMMANDS] == COMMANDS


def test_help_imports_nothing_that_takes_time(lone: Shell) -> None:
    slow = {"pydantic", "redis", "hiredis", "msgspec", "workers", "asyncio", "logging"}
    assert not imported(lone, "--help") & slow


@pytest.mark.parametrize(
    "words",
    [("emit", "PROGRESS(5%)", "-q"), ("inbox",), ("wait", "--all")],
    ids=lambda words: str(words[0]),
)
def test_the_commands_of_agents_import_no_pydantic(shell: Shell, words: tuple[str, ...]) -> None:
    shell.good("emit", "COMPLETED", "-q", FABRIC_AGENT="B")
    shell.good("wait", "--agent", "B")
    modules = imported(shell, *words)
    assert "redis" in modules
    assert not modules & {"pydantic", "pydantic_settings", "workers", "tomllib"}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name: str) -> None:
    command = program.get_command(program.make_context("fabric", [name]), name)
    assert command is not None
    help_line = next(group[name][1] for group in GROUPS.values() if name in group)
    assert help_line.endswith(".")
    assert command.help
    assert f"  fabric {name}" in command.help or f" fabric {name} " in command.help, "no example"


def test_the_scripts_call_main() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts == {"fabric": "fabric.cli:main", "signal-fabric": "fabric.cli:main"}


def test_version(lone: Shell) -> None:
    assert lone.good("--version").out == f"fabric {__version__}\n"


def test_an_unknown_command(lone: Shell) -> None:
    done = lone.run("emti")
    assert (done.code, done.out) == (2, "")
    assert "No such command 'emti'. Did you mean 'emit'?" in done.err


def test_a_bad_option_is_a_usage_error(lone: Shell) -> None:
    assert lone.run("emit", "--bogus").code == 2


def test_without_a_server_url(lone: Shell) -> None:
    done = lone.run("status")
    assert (done.code, done.out) == (2, "")
    assert "FABRIC_REDIS_URL" in done.err
    assert "fabric up" in done.err


@pytest.mark.parametrize("words", [("status",), ("emit", "STARTED"), ("inbox", "--follow")])
def test_an_unreachable_server(lone: Shell, words: tuple[str, ...]) -> None:
    lone.variables |= {"FABRIC_SESSION": "s", "FABRIC_AGENT": "A", "FABRIC_EMIT_LIMIT_MS": "0"}
    done = lone.run(*words, "--redis-url", "unix:///nowhere/redis.sock")
    assert (done.code, done.out) == (6, "")
    assert done.err.startswith("fabric: server: connection failed")


#: URLs with a password that is not to be shown, and what a command ends with on them.
UNREACHABLE = ("redis://user:s3cret@127.0.0.1:1/0", "redis://127.0.0.1:1/0?password=s3cret")
UNREADABLE = (
    "redis://user:s3cret/word@127.0.0.1:1/0",
    "redis://user:s3cret#word@127.0.0.1:1/0",
    "s3cret",
)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("url", "code"), [*((url, 6) for url in UNREACHABLE), *((url, 2) for url in UNREADABLE)]
)
@pytest.mark.parametrize("words", [("status",), ("keys",), ("dead",)])
def test_a_password_is_never_shown(
    lone: Shell, words: tuple[str, ...], url: str, code: int
) -> None:
    for done in (lone.run(*words, "--redis-url", url), lone.run(*words, FABRIC_REDIS_URL=url)):
        assert done.code == code
        assert "s3cret" not in done.out + done.err
        assert "Traceback" not in done.err


@pytest.mark.slow
@pytest.mark.parametrize("worker", ["orchestrator", "synthesizer"])
def test_a_worker_shows_no_password_either(lone: Shell, worker: str) -> None:
    for url in UNREADABLE:
        done = lone.run(worker, "--redis-url", url)
        assert done.code == 2
        assert "s3cret" not in done.err
    process = lone.start(worker, "--redis-url", UNREACHABLE[0])
    assert process.stderr is not None
    said = ""
    while "connection failed" not in said:
        said += process.stderr.readline()
    process.terminate()
    done = end(process)
    assert done.code == 0
    assert "s3cret" not in said + done.err


def test_flags_environment_and_files_count_in_that_order(quiet: Shell) -> None:
    def where(*flags: str, **more: str) -> str:
        first = quiet.good("keys", *flags, **more).lines[0]
        return first.partition("HGETALL ")[2].partition(":meta")[0].strip("'")

    del quiet.variables["FABRIC_NAMESPACE"], quiet.variables["FABRIC_SESSION"]
    assert where() == "fabric"
    user = quiet.home / ".config" / "fabric" / "fabric.toml"
    user.parent.mkdir(parents=True)
    user.write_text('namespace = "user"\n')
    assert where() == "user"
    (quiet.home / "fabric.toml").write_text('namespace = "project"\n')
    assert where() == "project"
    assert where(FABRIC_NAMESPACE="environment") == "environment"
    assert where(FABRIC_NAMESPACE="") == "project"
    assert where("--namespace", "flag", FABRIC_NAMESPACE="environment") == "flag"


@pytest.mark.parametrize("has_file", [False, True])
def test_a_bad_namespace_is_refused_with_and_without_a_file(quiet: Shell, has_file: bool) -> None:
    if has_file:
        (quiet.home / "fabric.toml").touch()
    done = quiet.run("emit", "STARTED", "--namespace", "a:b")
    assert (done.code, done.out) == (2, "")
    assert "setting namespace" in done.err
    assert "no braces, colons, spaces" in done.err


def test_a_closed_pipe_ends_silently(lone: Shell) -> None:
    process = lone.start("schema")
    assert process.stdout is not None
    process.stdout.close()
    process.stdout = None
    _, err = process.communicate()
    assert (process.returncode, err) == (141, "")


@pytest.mark.parametrize(
    "words",
    [
        ["--help"], ["--version"], ["schema"], ["rules", "show"], ["emit", "STARTED"],
        ["emit", "-"], ["status", "--sessions"], ["doctor", "--json"], ["wait", "x", "--help"],
    ],
)  # fmt: skip
def test_output_that_cannot_be_written_is_one_line(quiet: Shell, words: list[str]) -> None:
    given = b"STARTED\n" if words == ["emit", "-"] else None
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "fabric.cli", *words], stdout=full, stderr=subprocess.PIPE,
            env=quiet.environment(), cwd=quiet.home, input=given, check=False, timeout=60,
        )  # fmt: skip
    assert done.returncode == 74
    *_, said = done.stderr.decode().splitlines()
    assert said == "fabric: output cannot be written: No space left on device"
    assert "Traceback" not in done.stderr.decode()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_following_command_can_be_stopped(
    quiet: Shell, server: RunningServer, number: signal.Signals, code: int
) -> None:
    process = quiet.start("inbox", "--follow")
    until(lambda: is_following(server))
    process.send_signal(number)
    done = end(process)
    assert done.code == code
    assert not done.err.strip()


def test_it_runs_as_a_module() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "fabric.cli", "--version"], capture_output=True, check=True
    )
    assert done.stdout.startswith(b"fabric ")
