"""`fabric inbox`: read the messages that have come for an agent."""

from __future__ import annotations

import sys

import click

from fabric.cli.connect import Target, connected
from fabric.cli.options import json_option, on_target, since_option
from fabric.cli.output import json_line, print_lines
from fabric.client.message import Message
from fabric.ops.inbox import Inbox
from fabric.view.text import plain


@click.command()
@on_target("session", "agent")
@since_option
@click.option("--count", type=click.IntRange(min=1), help="Messages to read at most.")
@click.option("-f", "--follow", is_flag=True, help="Print what comes too, until Ctrl-C.")
@click.option("--peek", is_flag=True, help="Do not mark them as read.")
@json_option
async def inbox(
    target: Target, since: bytes | None, count: int | None, follow: bool, peek: bool, as_json: bool
) -> None:
    """Print the messages that have come for an agent since it last read its inbox.

    \b
      fabric inbox -a QA            unread messages, which then count as read
      fabric inbox -a QA --peek     the same, and they stay unread
      fabric inbox -a QA -f         unread messages, then each new one

    Messages are directives of the orchestrator and signals of other agents, to this agent or to
    everyone, in the order of the log. With --since, nothing is marked as read.
    """
    session, agent = target.need("session"), target.need("agent")
    line = message_json if as_json else message_line
    async with connected(target) as connection:
        reader = Inbox(connection.store, connection.keys(session)[1], agent)
        place = [since, since] if since is not None else await reader.place()
        async for messages, reached in reader.pages(place, follow=follow, limit=count):
            print_lines(map(line, messages))
            sys.stdout.flush()
            if not peek and since is None:
                await reader.remember(reached)


def message_line(message: Message) -> str:
    """Return a message as a line for a person."""
    to = " to everyone" if message.to_everyone else ""
    head = f"{message.id:<8} {message.type:<20} from {message.sender}{to}"
    return plain(f"{head}  {json_line(message.payload)}")


def message_json(message: Message) -> str:
    """Return a message as a line of JSON."""
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
