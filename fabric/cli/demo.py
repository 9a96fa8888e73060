"""`fabric demo`: a fleet of agents at work on real files, live; at the end, their report."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from shutil import copytree
from tempfile import TemporaryDirectory

import click

import fabric
from fabric import Fabric, devserver
from fabric.cli.connect import Target, json_option, on_target, run, url_of
from fabric.cli.output import note, print_json
from fabric.config import rulebook
from fabric.config.settings import Secret
from fabric.demo import fleet
from fabric.demo.report import Document, faults, gather, render
from fabric.demo.tree import Tree, take_snapshot
from fabric.errors import CallerError, ConfigError
from fabric.view.markdown import code
from fabric.view.text import plain
from fabric.watch.display import PlainDisplay, has_rich, live_display
from fabric.watch.frame import frame
from workers.supervisor import Supervisor

#: Bytes of the output of workers and agents that are shown when the demo fails.
LOG_BYTES_MAX = 4_000


@click.command()
@click.argument("path", required=False, type=click.Path(exists=True))
@on_target("session")
@click.option("-o", "--output", type=click.Path(dir_okay=False), help="Write the report there too.")
@click.option(
    "--fixed", type=click.Path(file_okay=False), help="Put the fixed copies into this new folder."
)
@click.option(
    "--keep/--no-keep",
    default=None,
    help="Leave the project's private server running. Default: only on a terminal.",
)
@json_option
def demo(
    target: Target,
    path: str | None,
    output: str | None,
    fixed: str | None,
    keep: bool | None,
    as_json: bool,
) -> None:
    """Review the Python files under PATH with a fleet of nine agents, each a process of its own.

    \b
      fabric demo src                     review the folder src
      fabric demo src -o report.md        and write the report into a file

    Six run analysers (ruff, bandit, vulture) and report progress, checkpoints and findings; two of
    them are blocked until another one has made an index. Three more fix a scratch copy of some
    files with ruff: two want to edit the same file, priority settles the conflict, and one stops
    all agents at a barrier to check the edits. PATH itself is only read.

    On a terminal you watch the fleet; elsewhere each signal is a line on stderr. The report, in
    Markdown, goes to stdout. PATH defaults to this package's own source. Exit code 1: an agent
    failed, an edit was lost, or the synthesis did not grow while all agents were at work.
    """
    path = path or str(Path(fabric.__file__).parent)
    missing = [tool for tool in ("bandit", "ruff", "vulture") if find_spec(tool) is None]
    if missing:
        lacks = f"the demo needs {', '.join(missing)}"
        raise ConfigError(f"{lacks}: pip install 'signal-fabric[demo]', or run scripts/demo")
    if fixed is not None and Path(fixed).is_dir() and any(Path(fixed).iterdir()):
        raise CallerError(f"{plain(fixed)} is not empty: name a new folder for the fixed files")
    # An orchestrator that cannot read its rules would be restarted for ever.
    if withheld := rulebook.in_force().withheld:
        note(withheld)
    if target.session is None:
        target = replace(target, session=datetime.now(UTC).strftime("demo-%Y%m%d-%H%M%S"))
    with _os_errors(), ExitStack() as ending:
        scratch = Path(ending.enter_context(TemporaryDirectory(prefix="fabric-demo-")))
        tree = take_snapshot(path, scratch)
        if not tree.files:
            raise CallerError(f"there are no Python files under {plain(path)}")
        program, server = _program(), ""
        if target.redis_url is None:
            mine = devserver.acquire()
            is_kept = sys.stdout.isatty() if keep is None else keep
            server = f"The private server has ended; {code(f'{program} up')} restarts it. Then:"
            if is_kept:
                server = f"The private server still runs; {code(f'{program} down')} stops it."
            ending.callback(mine.leave if is_kept else mine.release)
            target = replace(target, redis_url=Secret(mine.url))
        report = run(_review(target, path, tree, scratch))
        if fixed is not None:
            copytree(scratch / fleet.COPY_FOLDER / "fixed", fixed, dirs_exist_ok=True)
        text = render(report, program=program, server=server)
        if output is not None:
            Path(output).write_text(text)
    if as_json:
        print_json(report)
    elif sys.stdout.isatty() and has_rich():
        from rich.console import Console
        from rich.markdown import Markdown

        Console().print(Markdown(text))
    else:
        click.echo(text, nl=False)
    for fault in (found := faults(report)):
        note(fault)
    if found or any(agent["status"] != "completed" for agent in report["agents"]):
        click.get_current_context().exit(1)


def _program() -> str:
    """Return the words that call this program here: its name, or its path if PATH has another."""
    ours = Path(sys.executable).with_name("fabric")
    found = shutil.which("fabric")
    if not ours.exists() or (found is not None and ours.samefile(found)):
        return "fabric"
    here = Path.cwd()
    return shlex.quote(str(ours.relative_to(here) if ours.is_relative_to(here) else ours))


@contextmanager
def _os_errors() -> Iterator[None]:
    """Tell in one line which path cannot be read or written, and why."""
    try:
        yield
    except OSError as error:
        raise CallerError(plain(str(error))) from None


async def _review(target: Target, path: str, tree: Tree, scratch: Path) -> Document:
    """Run workers and fleet, shown live on a terminal, as lines elsewhere; return the report."""
    url, session, log = url_of(target), target.need("session"), scratch / "output.log"
    where = {"FABRIC_NAMESPACE": target.namespace, "FABRIC_SESSION": session}
    lines = PlainDisplay(lambda line: click.echo(plain(line), err=True))
    is_live = sys.stderr.isatty() and has_rich()
    show = live_display(frame, stderr=True) if is_live else nullcontext(lines)
    failures: list[str] | None = None
    with log.open("wb") as file:
        output = file.fileno()
        kinds = "orchestrator", "synthesizer"
        workers = Supervisor(kinds, url, environment=where, say=note, output=output)
        try:
            async with workers, Fabric.connect(url, namespace=target.namespace) as fabric:
                with show as shown:
                    where |= {"FABRIC_REDIS_URL": url}
                    growth, failures = await fleet.run(fabric, where, path, scratch, shown, output)
                return await gather(fabric.session(session), growth, tree, scratch, path)
        finally:
            if failures is None or failures:  # it has failed, or agents have
                end = log.read_bytes()[-LOG_BYTES_MAX:].decode("utf-8", "replace")
                for line in [*end.splitlines(), *(failures or ())]:
                    note(line)
