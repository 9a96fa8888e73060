"""`fabric watch`: a session live, agent by agent."""

from __future__ import annotations

import sys
from shutil import get_terminal_size

import click

from fabric.cli.connect import Target, connected, on_target
from fabric.cli.output import note, print_lines
from fabric.client.session import Session
from fabric.errors import NotFoundError
from fabric.ops.overview import sessions
from fabric.view.text import plain
from fabric.watch.board import Board
from fabric.watch.display import NO_RICH, PlainDisplay, has_rich, live_display
from fabric.watch.follow import Follower
from fabric.watch.frame import WIDTH_DEFAULT, frame, text_of


@click.command()
@click.argument("name", metavar="[SESSION]", required=False)
@on_target("session")
@click.option("--once", is_flag=True, help="Print the present picture and exit.")
@click.option("--plain", "as_lines", is_flag=True, help="Print lines, on a terminal too.")
@click.option("--stay", is_flag=True, help="Go on after the session has ended, until Ctrl-C.")
async def watch(target: Target, name: str | None, once: bool, as_lines: bool, stay: bool) -> None:
    """Show agents by stream with their progress and waits, the synthesis, questions, timeline.

    \b
      fabric watch demo           live, until the session ends
      fabric watch demo --once    the present picture

    Without a session, the one that was active last. Ends with the session, or with Ctrl-C. On a
    terminal it draws one picture, if the extra `tui` is there; elsewhere, and with --plain, it
    prints a line for each event. It only reads.
    """
    name = name or target.session
    is_terminal = sys.stdout.isatty()
    async with connected(target, waits=not once) as connection:
        if name is None:
            found = await sessions(connection.store, connection.partitions)
            if not found:
                raise NotFoundError(
                    "no sessions yet: name the one to wait for (fabric watch SESSION)"
                )
            name = found[0].name
        keys = connection.keys(name)[1]
        follower = Follower(connection.store, keys, Board(keys.name))
        if once:
            await Session(connection.store, keys).must_exist()
            await follower.read()
            width = get_terminal_size().columns if is_terminal else WIDTH_DEFAULT
            print_lines(text_of(line) for line in frame(follower.board, width))
        elif is_terminal and not as_lines and has_rich():
            with live_display(frame) as show:
                await follower.until_ended(show, stay=stay)
        else:
            if is_terminal and not as_lines:
                note(NO_RICH)
            show_lines = PlainDisplay(lambda line: click.echo(plain(line)))
            await follower.until_ended(show_lines, stay=stay)
