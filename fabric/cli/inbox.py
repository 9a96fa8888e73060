"""`fabric inbox`: what has come for an agent since it last looked."""

from __future__ import annotations

import sys

import click

from fabric.cli.connect import Target, connected, run
from fabric.cli.options import json_option, on_target
from fabric.cli.output import json_line, print_lines
from fabric.client.message import Message
from fabric.ops.inbox import Inbox
from fabric.store.value import parse_id
from fabric.view.text import plain


def _log_id(context: click.Context, parameter: click.Parameter, value: str | None) -> bytes | None:
    if value is None:
        return None
    try:
        parse_id(value.encode())
    except ValueError:
        raise click.BadParameter(f"'{value}' is not an id: 7, or 7-2") from None
    return value.encode()


#: `--since`: an id to begin after.
since_option = click.option(
    "--since", metavar="ID", callback=_log_id, help="Begin after this log id."
)


@click.command(short_help="Read what has come for an agent.")
@on_target("session", "agent")
@since_option
@click.option("--count", type=click.IntRange(min=1), help="Read at most so many.")
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes, until Ctrl-C.")
@click.option("--peek", is_flag=True, help="Leave them unread.")
@json_option
def command(
    target: Target,
    since: bytes | None,
    count: int | None,
    follow: bool,
    peek: bool,
    as_json: bool,
) -> None:
    """Print the messages that have come for the agent since it last read its inbox.

    Directives of the orchestrator and signals passed on, to the agent and to everyone, in the
    order of the log. They count as read once they are printed; with --since, reading moves
    nothing.
    """
    run(_read(target, since, count, follow=follow, keep=peek or since is not None, json=as_json))


async def _read(
    target: Target, since: bytes | None, count: int | None, *, follow: bool, keep: bool, json: bool
) -> None:
    session, agent = target.need("session"), target.need("agent")
    async with connected(target) as connection:
        inbox = Inbox(connection.store, connection.keys(session)[1], agent)
        place = [since, since] if since is not None else await inbox.place()
        async for messages, reached in inbox.pages(place, follow=follow, limit=count):
            print_lines([_json(message) if json else _words(message) for message in messages])
            sys.stdout.flush()
            if not keep:
                await inbox.remember(reached)


def _words(message: Message) -> str:
    whom = " to everyone" if message.to_everyone else ""
    return plain(
        f"{message.id:<8} {message.type:<20} from {message.sender}{whom}  "
        + json_line(message.payload)
    )


def _json(message: Message) -> str:
    return json_line(
        {
            "id": message.id,
            "type": message.type,
            "from": message.sender,
            "stream": message.stream,
            "cause": message.cause,
            "payload": message.payload,
            "to_everyone": message.to_everyone,
        }
    )
