"""`fabric dead`: list refused signals, send them again, or delete them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any

import click

from fabric.cli.connect import Connection, Function, Target, connected, json_option, on_target
from fabric.cli.output import json_line, note, print_either, print_lines
from fabric.ops.dead_letters import DeadLetters, Letter
from fabric.view.text import plain, rfc3339, table
from fabric.wire.stored import text_fields_of

#: Letters listed by default: a screenful.
LETTERS_SHOWN = 40


class _Group(click.Group):
    """`fabric dead` without a subcommand, or with options only, lists."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or (args[0] not in self.commands and args[0] not in ctx.help_option_names):
            args = ["list", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_Group)
def dead() -> None:
    """List signals that were refused, with the reason; send them again, or delete them.

    \b
      fabric dead                     list them
      fabric dead show 1735-0         print one in full
      fabric dead retry 1735-0        send it again
      fabric dead discard --all       delete all

    Refused signals are kept as dead letters until somebody acts.
    """


_code_option = click.option("--code", help="Only those refused with this code.")
_Act = Callable[[Connection, DeadLetters, list[Letter]], Awaitable[list[dict[str, str]]]]


@dead.command("list")
@on_target("session")
@_code_option
@click.option(
    "--count", type=click.IntRange(min=1), default=LETTERS_SHOWN, help="Letters to list at most."
)
@json_option
async def list_letters(target: Target, code: str | None, count: int, as_json: bool) -> None:
    """List dead letters, the newest first.

    \b
      fabric dead list --session demo --code TYPE
    """
    async with connected(target) as connection:
        dead = _dead(connection)
        found: list[Letter] = []
        async for letter in dead.newest():
            if letter.matches(code, target.session):
                found.append(letter)
            if len(found) > count:
                break
    if as_json:
        print_lines(json_line(_document(dead, letter)) for letter in found[:count])
    elif found:
        header = ("ID", "WHEN", "CODE", "SESSION", "EMITTER", "TYPE", "REASON")
        print_lines(table(header, [letter_row(dead, letter) for letter in found[:count]]))
    if len(found) > count:
        note(f"only the newest {count} are listed (--count)")


@dead.command("show")
@click.argument("id_", metavar="ID")
@on_target()
@json_option
async def show_letter(target: Target, id_: str, as_json: bool) -> None:
    """Print a dead letter in full.

    \b
      fabric dead show 1735787045000-0
    """
    async with connected(target) as connection:
        dead = _dead(connection)
        (letter,) = await dead.find([id_])
    document = _document(dead, letter)
    *rows, (_, fields) = document.items()
    rows += [(f"  {name}", value) for name, value in fields.items()]
    print_either(as_json, document, (plain(f"{name:<12} {value}") for name, value in rows))


def _on_letters(act: _Act) -> Function:
    """Give a command the options that choose letters; `act` returns a record of each."""

    @on_target("session")
    @click.argument("ids", nargs=-1, metavar="[ID]...")
    @click.option("--all", "everything", is_flag=True, help="All that are there now.")
    @_code_option
    @json_option
    @wraps(act)
    async def command(
        target: Target, ids: tuple[str, ...], everything: bool, code: str | None, as_json: bool
    ) -> None:
        if bool(ids) == everything:
            raise click.UsageError("give either ids or --all")
        if ids and code:
            raise click.UsageError("--code goes with --all")
        async with connected(target) as connection:
            dead = _dead(connection)
            async for letters in dead.chosen(ids, code, target.session):
                done = await act(connection, dead, letters)
                print_lines(json_line(one) if as_json else [*one.values()][-1] for one in done)

    return command


@dead.command("retry")
@_on_letters
async def retry_letters(
    connection: Connection, dead: DeadLetters, letters: list[Letter]
) -> list[dict[str, str]]:
    """Send dead letters again as they were, remove them from the list, and print their new ids.

    \b
      fabric dead retry 1735787045000-0
      fabric dead retry --all --session demo --code TYPE

    What is still wrong is refused again, as a new letter. --all takes the letters that are there
    now; --session and --code choose among them.
    """
    sent = await dead.retry(letters, connection.emitter)
    labels = map(dead.label, letters)
    return [{"letter": label, "id": new} for label, new in zip(labels, sent, strict=True)]


@dead.command("discard")
@_on_letters
async def discard_letters(
    connection: Connection, dead: DeadLetters, letters: list[Letter]
) -> list[dict[str, str]]:
    """Delete dead letters for good, and print which.

    \b
      fabric dead discard 1735787045000-0
      fabric dead discard --all --code TYPE
    """
    await dead.discard(letters)
    return [{"letter": dead.label(letter)} for letter in letters]


def _dead(connection: Connection) -> DeadLetters:
    return DeadLetters(connection.store, connection.partitions)


def letter_row(dead: DeadLetters, letter: Letter) -> list[str]:
    """Return a letter as a row of the list."""
    sender = (letter.field(b"session"), letter.field(b"emitter"))
    label, when = dead.label(letter), rfc3339(letter.ms)
    return [label, when, letter.code, *sender, letter.type, letter.reason]


def _document(dead: DeadLetters, letter: Letter) -> dict[str, Any]:
    known = {name: getattr(letter, name) for name in ("code", "reason", "source", "entry")}
    fields = text_fields_of(letter.fields)
    return {"id": dead.label(letter), "when": rfc3339(letter.ms), **known, "fields": fields}
