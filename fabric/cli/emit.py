"""`fabric emit`: send one signal, or a stream of them from standard input."""

from __future__ import annotations

import sys
from dataclasses import dataclass

import click

from fabric.cli.connect import Connection, Target, connected, json_option, on_target
from fabric.cli.output import json_line, note, print_lines
from fabric.client.emitter import WhenFull, checked, prepare, submit
from fabric.errors import ServerError, SignalError
from fabric.ops.ndjson import Line, document, follow
from fabric.wire.spelling import rewrite


@click.command()
@click.argument("signal", metavar="TYPE|-")
@click.argument("pairs", nargs=-1, metavar="[NAME=VALUE]...")
@on_target("session", "agent", "stream")
@click.option("--percent", help="Progress of the work, 0 to 100.")
@click.option("--checkpoint", help="Checkpoint just passed.")
@click.option("--on", help="Dependency that a BLOCKED agent waits for.")
@click.option("--location", help="Location of a resolved dependency (output_location).")
@click.option("--field", multiple=True, metavar="NAME=VALUE", help="Any other field; repeatable.")
@click.option("--payload", metavar="JSON", help="The payload as a JSON object.")
@click.option("--task", help="Task that the agent works on.")
@click.option("--seq", help="Sequence number: a repeat is recognised and dropped.")
@click.option("--incarnation", help="Incarnation of the agent.")
@click.option("--at", help="Time of the event, RFC 3339.")
@click.option("--trace", help="W3C traceparent.")
@click.option(
    "--when-full",
    type=click.Choice([choice.value for choice in WhenFull]),
    default=WhenFull.WAIT.value,
    show_default=True,
    help="While too many signals wait for the orchestrator: wait, or fail.",
)
@click.option("--strict", is_flag=True, help="With -: stop at the first bad line.")
@click.option("-q", "--quiet", is_flag=True, help="Print no ids.")
@json_option
async def emit(
    target: Target,
    signal: str,
    pairs: tuple[str, ...],
    field: tuple[str, ...],
    when_full: str,
    strict: bool,
    quiet: bool,
    as_json: bool,
    **fields: str | None,
) -> None:
    """Send a signal as an agent, and print its id.

    \b
      fabric emit PROGRESS --percent 50 --checkpoint files_read
      fabric emit 'PROGRESS(25%)'
      fabric emit BLOCKED on=schema-change
      fabric emit STARTED produces='["schema-change"]'
      agent | fabric emit -

    With -, signals are read from standard input, one a line, as JSON documents or shorthands, and
    sent as soon as they arrive. A bad line is reported and skipped; the exit code is 1 then.
    """
    # The other options are fields of the signal, all but one of the same name.
    fields["output_location"] = fields.pop("location")
    given = {name: value for name, value in fields.items() if value is not None}
    if signal == "-":
        if pairs or field or given:
            raise click.UsageError("with '-' all fields come from standard input")
        feed = _Feed(target, WhenFull(when_full), quiet, as_json, strict)
        if not await feed.send_all():
            raise click.exceptions.Exit(1)
        return
    if signal.startswith("{"):
        if pairs or field or given:
            raise click.UsageError("a JSON document must contain all fields")
        entry = prepare(document(signal.encode("utf-8", "surrogateescape")), _defaults(target))
    else:
        entry = _entry(target, signal, [*given.items(), *map(_pair, (*pairs, *field))])
    async with connected(target, founding=True) as connection:
        (entry_id,) = await _submit(connection, [entry], WhenFull(when_full))
    if not quiet:
        click.echo(json_line({"id": entry_id}) if as_json else entry_id)


def _entry(target: Target, signal: str, fields: list[tuple[str, str]]) -> list[bytes]:
    """Return the checked entry for the words of a command line."""
    named = {name for name, _ in fields}
    who = []
    if "session" not in named:
        who.append(("session", target.need("session")))
    if "emitter" not in named:
        who.append(("emitter", target.need("agent")))
    if target.stream and "stream" not in named:
        who.append(("stream", target.stream))
    flat = [("type", signal), *who, *fields]
    parts = [part.encode("utf-8", "surrogateescape") for pair in flat for part in pair]
    return checked(rewrite(parts))


def _pair(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator or not name:
        raise click.UsageError(f"'{text}' is not NAME=VALUE")
    return name, value


def _defaults(target: Target) -> dict[str, str | None]:
    return {"session": target.session, "emitter": target.agent, "stream": target.stream}


async def _submit(
    connection: Connection, entries: list[list[bytes]], when_full: WhenFull
) -> list[str]:
    return await submit(
        connection.store,
        connection.partitions,
        entries,
        ingress_max=connection.target.ingress_max,
        limit_ms=connection.target.emit_limit_ms,
        when_full=when_full,
    )


@dataclass
class _Feed:
    """Sends standard input line by line."""

    target: Target
    when_full: WhenFull
    quiet: bool
    as_json: bool
    strict: bool
    sent: int = 0
    refused: int = 0

    async def send_all(self) -> bool:
        """Send lines until the input ends; return whether all of them were good."""
        async with connected(self.target, founding=True) as connection:
            async for lines in follow(sys.stdin.fileno()):
                if good := self._check(lines):
                    await self._send(connection, good)
                if self.refused and self.strict:
                    break
        if self._is_watched():
            click.echo(err=True)
        if self.refused:
            note(f"{self.sent} sent, {self.refused} refused")
        return not self.refused

    def _is_watched(self) -> bool:
        """Whether to show a running count: on a terminal to which nothing else is written."""
        return sys.stderr.isatty() and (self.quiet or not sys.stdout.isatty())

    def _check(self, lines: list[Line]) -> list[tuple[int, list[bytes]]]:
        good = []
        for number, line in lines:
            try:
                good.append((number, prepare(document(line), _defaults(self.target))))
            except SignalError as error:
                self.refused += 1
                note(f"line {number}: {error}")
                if self.strict:
                    break
        return good

    async def _send(self, connection: Connection, good: list[tuple[int, list[bytes]]]) -> None:
        numbers = [number for number, _ in good]
        try:
            ids = await _submit(connection, [entry for _, entry in good], self.when_full)
        except ServerError:
            note(
                f"stopped at lines {numbers[0]} to {numbers[-1]}, which may not have arrived; "
                f"{self.sent} signals before them were sent"
            )
            raise
        self.sent += len(ids)
        if self._is_watched():
            click.echo(f"\r{self.sent} sent, {self.refused} refused", err=True, nl=False)
        if not self.quiet:
            print_lines(
                json_line({"line": number, "id": entry_id}) if self.as_json else entry_id
                for number, entry_id in zip(numbers, ids, strict=True)
            )
