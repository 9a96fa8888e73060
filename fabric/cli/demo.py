"""`fabric demo`: a fleet of agents at work on real files, live; at the end, their report."""

from __future__ import annotations

import sys
import tempfile
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path

import click

import fabric
from fabric import devserver
from fabric.cli.connect import Target, run, url_of
from fabric.cli.options import json_option, on_target
from fabric.cli.output import print_json
from fabric.cli.reference import all_keys
from fabric.config import rulebook
from fabric.config.settings import Secret
from fabric.demo import run as fleet
from fabric.demo.board import Board
from fabric.demo.changes import changes, hand_over
from fabric.demo.fleet import COPY_FOLDER
from fabric.demo.listing import Listing, find
from fabric.demo.report import Report, Row, clock, render
from fabric.errors import CallerError
from fabric.view.text import plain
from workers.supervisor import Supervisor

#: Bytes of the workers' log that are shown when the demo fails.
LOG_BYTES_MAX = 4_000


@click.command(short_help="Let a fleet of reviewers work on a folder, live.")
@click.argument("path", required=False, type=click.Path(exists=True))
@on_target("session")
@click.option("-o", "--output", type=click.Path(dir_okay=False), help="Write the report there too.")
@click.option(
    "--fixed",
    type=click.Path(file_okay=False),
    help="Put the fixed copies of files into this folder, which must be empty or not there.",
)
@click.option(
    "--keep/--no-keep",
    default=None,
    help="Leave this project's own server running, to look inside. On a terminal it is.",
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
    """Review the Python files under PATH with six agents, each a process of its own.

    They report progress, checkpoints and findings; one makes an index on which two others are
    blocked until it is there. Three more agents fix a scratch copy of some of the files: two want
    to edit the same one, so that a conflict is settled by priority, and one stops all at a barrier
    to look the edits through. PATH itself is only read.

    On a terminal you watch them; when piped, each signal is a line on stderr. The report, in
    Markdown, goes to stdout. PATH defaults to this package's own source. Exit code 1 when an agent
    fails, an edit is lost, or the synthesis has not grown while all were at work.
    """
    path = path or str(Path(fabric.__file__).parent)
    try:
        listing = find(path)
    except OSError as error:
        raise CallerError(f"{plain(path)} cannot be read: {error.strerror or error}") from None
    if not listing.files:
        raise CallerError(f"there are no Python files under {plain(path)}")
    if fixed is not None and Path(fixed).is_dir() and any(Path(fixed).iterdir()):
        raise CallerError(f"{plain(fixed)} is not empty: name a new folder for the fixed files")
    # An orchestrator that cannot read its rules would be started again for ever.
    rulebook.load()
    session = target.session or datetime.now(UTC).strftime("demo-%Y%m%d-%H%M%S")
    target = replace(target, session=session)
    with ExitStack() as ending:
        if target.redis_url is None:
            mine = devserver.acquire()
            is_kept = sys.stdout.isatty() if keep is None else keep
            ending.callback(mine.leave if is_kept else mine.release)
            target = replace(target, redis_url=Secret(mine.url))
        report = run(_review(target, session, path, listing, fixed))
        text = render(report)
        if output:
            Path(output).write_text(text)
        _show(report, text, as_json=as_json)
    for lost in report.changes.lost:
        _say(f"{plain(lost)} of the copy does not hold both edits")
    for fault in report.course.faults:
        _say(fault)
    is_whole = not (report.changes.lost or report.course.faults)
    if not is_whole or any(agent.status != "completed" for agent in report.agents):
        click.get_current_context().exit(1)


async def _review(
    target: Target, session: str, path: str, listing: Listing, fixed: str | None
) -> Report:
    """Run workers and fleet; return the report. `fixed` is where the fixed files are to go."""
    started = datetime.now(UTC)
    with tempfile.TemporaryDirectory(prefix="fabric-demo-") as folder:
        scratch = Path(folder)
        log = scratch / "workers.log"
        with log.open("wb") as output:
            try:
                async with Supervisor(
                    ["orchestrator", "synthesizer"],
                    url_of(target),
                    environment={"FABRIC_NAMESPACE": target.namespace},
                    say=_say,
                    output=output.fileno(),
                ):
                    with _view() as show:
                        board = await fleet.run(
                            url_of(target), target.namespace, session, path, scratch, show
                        )
            except BaseException:
                sys.stderr.write(log.read_text("utf-8", "replace")[-LOG_BYTES_MAX:])
                raise
        found = changes(scratch / COPY_FOLDER, board.turns, board.remarks)
        if fixed is not None:
            _hand_over(scratch, fixed)
    commands = [key.command for key in await all_keys(target, session)]
    ended = [agent.ended_ms or 0 for agent in board.agents.values() if agent.is_reviewer]
    return Report(
        path=path,
        session=session,
        started=started.strftime("%Y-%m-%d %H:%M:%S UTC"),
        elapsed_ms=max(ended),
        files=len(listing.files),
        agents=board.summaries(),
        arrivals=tuple(board.arrivals),
        timeline=tuple(board.timeline),
        commands=tuple(commands),
        skipped=listing.skipped,
        changes=found,
        course=board.course(),
    )


def _hand_over(scratch: Path, fixed: str) -> None:
    try:
        hand_over(scratch / COPY_FOLDER, Path(fixed))
    except OSError as error:
        reason = error.strerror or error
        raise CallerError(f"{plain(fixed)} cannot be written: {reason}") from None


def _view() -> AbstractContextManager[fleet.Show]:
    """Return what shows the fleet at work: a live view on a terminal, lines elsewhere."""
    if sys.stderr.isatty() and find_spec("rich") is not None:
        from fabric.demo.view import LiveView

        return LiveView()
    return nullcontext(_print_rows)


def _print_rows(board: Board, rows: list[Row]) -> None:
    for row in rows:
        click.echo(
            f"{clock(row.at_ms):>9}  {plain(row.signal):<24}  {plain(row.stream):<6}  "
            f"{plain(row.action)}",
            err=True,
        )


def _show(report: Report, text: str, *, as_json: bool) -> None:
    if as_json:
        print_json(report)
    elif sys.stdout.isatty() and find_spec("rich") is not None:
        from fabric.demo.view import print_markdown

        print_markdown(text)
    else:
        click.echo(text, nl=False)


def _say(words: str) -> None:
    click.echo(f"fabric: {words}", err=True)
