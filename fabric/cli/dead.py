"""`fabric dead`: signals that were refused, why, and what to do with them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import click

from fabric.cli.connect import Connection, Target, connected, run
from fabric.cli.options import json_option, on_target
from fabric.cli.output import json_line, print_json, print_lines
from fabric.client.emitter import Emitter
from fabric.ops.dead_letters import DeadLetters, Letter
from fabric.view.text import plain, rfc3339, table
from fabric.wire.stored import pairs_of

#: Letters listed unless more are asked for: a screenful.
LETTERS_SHOWN = 40


class DeadGroup(click.Group):
    """`fabric dead` by itself, or with options only, lists."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put `list` first where no command is named."""
        if not args or (args[0] not in self.commands and args[0] not in ctx.help_option_names):
            args = ["list", *args]
        return super().parse_args(ctx, args)


@click.group(cls=DeadGroup, short_help="List, retry or discard refused signals.")
def command() -> None:
    """Show signals that were refused, send them again, or throw them away.

    They are kept until somebody does. `fabric dead` by itself lists them.
    """


_code_option = click.option("--code", help="Only those refused with this code.")
_ids_argument = click.argument("ids", nargs=-1, metavar="[ID]...")
_all_option = click.option("--all", "everything", is_flag=True, help="All there are now.")


@command.command("list")
@on_target("session")
@_code_option
@click.option("--count", type=click.IntRange(min=1), default=LETTERS_SHOWN, help="At most so many.")
@json_option
def list_letters(target: Target, code: str | None, count: int, as_json: bool) -> None:
    """List letters, the newest first; with --session only those of that session."""
    run(_list(target, code, count, as_json=as_json))


async def _list(target: Target, code: str | None, count: int, *, as_json: bool) -> None:
    async with connected(target) as connection:
        dead = _dead(connection)
        found: list[Letter] = []
        more = False
        async for letter in dead.newest():
            if not _is_wanted(letter, code, target.session):
                continue
            if len(found) == count:
                more = True
                break
            found.append(letter)
    if as_json:
        print_lines(json_line(_document(dead, letter)) for letter in found)
    elif found:
        header = ("ID", "WHEN", "CODE", "SESSION", "EMITTER", "TYPE", "REASON")
        print_lines(table(header, [_row(dead, letter) for letter in found]))
    if more:
        click.echo(f"fabric: the newest {count} are shown (--count)", err=True)


@command.command("show")
@click.argument("id_", metavar="ID")
@on_target()
@json_option
def show_letter(target: Target, id_: str, as_json: bool) -> None:
    """Show all that a letter holds."""
    run(_show(target, id_, as_json=as_json))


async def _show(target: Target, label: str, *, as_json: bool) -> None:
    async with connected(target) as connection:
        dead = _dead(connection)
        (letter,) = await dead.find([label])
    document = _document(dead, letter)
    if as_json:
        print_json(document)
        return
    fields = document.pop("fields")
    rows = [*document.items(), *((f"  {name}", value) for name, value in fields.items())]
    print_lines(plain(f"{name:<12} {value}") for name, value in rows)


@command.command("retry")
@_ids_argument
@on_target("session")
@_all_option
@_code_option
@json_option
def retry_letters(
    target: Target, ids: tuple[str, ...], everything: bool, code: str | None, as_json: bool
) -> None:
    """Send letters again, as they were, and remove them from here; print their new ids.

    They are judged anew: what is still wrong comes back as a new letter. With --all those that
    are there now; --session and --code choose among them.
    """
    _check(ids, everything=everything, code=code)
    run(_retry(target, list(ids), code, as_json=as_json))


async def _retry(target: Target, ids: list[str], code: str | None, *, as_json: bool) -> None:
    async with connected(target) as connection:
        dead = _dead(connection)

        def emitter(partition: int) -> Emitter:
            return Emitter(
                connection.store,
                partition,
                ingress_max=target.ingress_max,
                limit_ms=target.emit_limit_ms,
            )

        async for letters in _chosen(dead, ids, code, target.session):
            sent = await dead.retry(letters, emitter)
            pairs = zip(letters, sent, strict=True)
            print_lines(
                json_line({"letter": dead.label(letter), "id": new}) if as_json else new
                for letter, new in pairs
            )


@command.command("discard")
@_ids_argument
@on_target("session")
@_all_option
@_code_option
@json_option
def discard_letters(
    target: Target, ids: tuple[str, ...], everything: bool, code: str | None, as_json: bool
) -> None:
    """Throw letters away for good; print which."""
    _check(ids, everything=everything, code=code)
    run(_discard(target, list(ids), code, as_json=as_json))


async def _discard(target: Target, ids: list[str], code: str | None, *, as_json: bool) -> None:
    async with connected(target) as connection:
        dead = _dead(connection)
        async for letters in _chosen(dead, ids, code, target.session):
            await dead.discard(letters)
            labels = map(dead.label, letters)
            print_lines(json_line({"letter": one}) if as_json else one for one in labels)


def _check(ids: tuple[str, ...], *, everything: bool, code: str | None) -> None:
    if bool(ids) == everything:
        raise click.UsageError("which? Their ids, or --all")
    if ids and code:
        raise click.UsageError("--code chooses among --all")


async def _chosen(
    dead: DeadLetters, ids: list[str], code: str | None, session: str | None
) -> AsyncIterator[list[Letter]]:
    if ids:
        yield await dead.find(ids)
        return
    async for letters in dead.present(lambda letter: _is_wanted(letter, code, session)):
        yield letters


def _is_wanted(letter: Letter, code: str | None, session: str | None) -> bool:
    return (code is None or letter.code == code) and (
        session is None or letter.field(b"session") == session
    )


def _dead(connection: Connection) -> DeadLetters:
    return DeadLetters(connection.store, connection.partitions)


def _row(dead: DeadLetters, letter: Letter) -> list[str]:
    return [
        dead.label(letter),
        rfc3339(letter.ms),
        letter.code,
        letter.field(b"session"),
        letter.field(b"emitter"),
        letter.type,
        letter.reason,
    ]


def _document(dead: DeadLetters, letter: Letter) -> dict[str, Any]:
    fields = pairs_of(letter.fields)
    return {
        "id": dead.label(letter),
        "when": rfc3339(letter.ms),
        "code": letter.code,
        "reason": letter.reason,
        "source": letter.source,
        "entry": letter.entry,
        "fields": {
            name.decode("utf-8", "replace"): value.decode("utf-8", "replace")
            for name, value in fields
        },
    }
