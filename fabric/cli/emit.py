"""`fabric emit`: send one signal, or a stream of them from standard input."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import click

from fabric.cli.connect import Connection, Target, connected, json_option, on_target
from fabric.cli.output import json_line, note, print_lines
from fabric.client.emitter import (
    NAMING_TYPES,
    WhenFull,
    checked,
    prepare,
    submit,
    with_names,
)
from fabric.core.signal import SignalType
from fabric.errors import FabricError, NotAllowedError, ServerError, SignalError
from fabric.ops.ndjson import Line, document, follow
from fabric.wire.entry import decode
from fabric.wire.spelling import check_names, rewrite
from fabric.wire.stored import pairs_of, read_object

if TYPE_CHECKING:
    from fabric.client.sent_signal import Confirmed

#: Types of signals with which files are given back.
GIVING_BACK = frozenset({b"RELEASE", b"COMPLETED", b"FAILED"})

#: Seconds to wait until a signal is decided. That takes some milliseconds; when a worker has died,
#: the next one needs as long as a lease.
TIMEOUT_S = 10.0


@click.command()
@click.argument("signal", metavar="TYPE|-")
@click.argument("pairs", nargs=-1, metavar="[NAME=VALUE]...")
@on_target("session", "agent", "stream", "workspace", "instance")
@click.option("--percent", help="Progress of the work, 0 to 100.")
@click.option("--checkpoint", help="Checkpoint just passed.")
@click.option("--on", help="Dependency that a BLOCKED agent waits for.")
@click.option("--location", help="Location of a resolved dependency (output_location).")
@click.option(
    "--field", multiple=True, metavar="NAME=VALUE", help="Any other field, unchecked; repeatable."
)
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
@click.option(
    "--confirm/--no-confirm",
    "is_confirmed",
    default=None,
    help="Wait until the signal is decided; print its log id, or why it was refused. "
    "Default: if stdout is a terminal, but not with -.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0),
    default=TIMEOUT_S,
    show_default=True,
    metavar="S",
    help="With --confirm: seconds to wait.",
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
    is_confirmed: bool | None,
    timeout: float,
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

    Sent is not decided: the id is that of the ingress, and the rules may still refuse the signal.
    With --confirm the command waits for the decision. It then prints the log id (7-0); --json has
    both. Exit code 4: the signal was refused, with the reason. 7: nobody has decided it yet; it is
    stored, and will be decided when an orchestrator runs. A repeat (--seq) has the answer of the
    first. With -, --confirm sends each line when the one before it is decided.
    """
    # The other options are fields of the signal, all but one of the same name.
    fields["output_location"] = fields.pop("location")
    given = {name: value for name, value in fields.items() if value is not None}
    if signal == "-":
        if pairs or field or given:
            raise click.UsageError("with '-' all fields come from standard input")
        limit_s = timeout if is_confirmed else None
        feed = _Feed(target, WhenFull(when_full), quiet, as_json, strict, limit_s)
        if not await feed.send_all():
            raise click.exceptions.Exit(1)
        return
    if signal.startswith("{"):
        if pairs or field or given:
            raise click.UsageError("a JSON document must contain all fields")
        given_document = document(signal.encode("utf-8", "surrogateescape"))
        entry = prepare(given_document, _defaults(target), target.workspace)
    else:
        told = [*map(_pair, pairs)]
        free = [*given.items(), *map(_pair, field)]
        entry = _entry(target, signal, [*told, *free], names=[name for name, _ in told])
    waits_s = timeout if decides(is_confirmed) else None
    await send(target, entry, waits_s, WhenFull(when_full), quiet=quiet, as_json=as_json)


def decides(is_confirmed: bool | None) -> bool:
    """Whether to wait for the decision on a signal; by default for the person at a terminal."""
    return sys.stdout.isatty() if is_confirmed is None else is_confirmed


async def send(
    target: Target,
    entry: list[bytes],
    confirm_s: float | None,
    when_full: WhenFull = WhenFull.WAIT,
    *,
    quiet: bool = False,
    as_json: bool = False,
) -> None:
    """Send a checked entry and print its id; or wait so long for the decision and print that.

    Raises NotAllowedError if the signal was refused, else what Emitter.send and `confirm` raise.
    """
    async with connected(target, founding=True, patience_s=None) as connection:
        if confirm_s is not None:
            found = await _confirm(connection, entry, when_full, confirm_s)
        else:
            (entry_id,) = await _submit(connection, [entry], when_full)
    if confirm_s is not None:
        _report(found, quiet=quiet, as_json=as_json)
        if found.refusal is not None:
            raise NotAllowedError(str(found.refusal))
    elif not quiet:
        click.echo(json_line({"id": entry_id}) if as_json else entry_id)


def _entry(
    target: Target, signal: str, fields: list[tuple[str, str]], names: list[str]
) -> list[bytes]:
    """Return the checked entry for the words of a command line; `names` must be no slips."""
    named = {name for name, _ in fields}
    who = []
    if "session" not in named:
        who.append(("session", target.need("session")))
    if "emitter" not in named:
        who.append(("emitter", target.need("agent")))
    if target.stream and "stream" not in named:
        who.append(("stream", target.stream))
    if target.instance and "instance" not in named:
        who.append(("instance", target.instance))
    flat = [("type", signal), *who, *fields]
    parts = [part.encode("utf-8", "surrogateescape") for pair in flat for part in pair]
    entry = dict(pairs_of(rewrite(parts)))
    kind = entry[b"type"].decode()
    check_names(SignalType(kind), names)
    if kind in NAMING_TYPES:
        payload = read_object(entry.get(b"payload", b"{}"))
        if payload is not None and payload != (
            known := with_names(kind, payload, target.workspace)
        ):
            entry[b"payload"] = json_line(known).encode()
    return checked([part for pair in entry.items() for part in pair])


def _pair(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator or not name:
        raise click.UsageError(f"'{text}' is not NAME=VALUE")
    return name, value


def _defaults(target: Target) -> dict[str, str | None]:
    return {
        "session": target.session,
        "emitter": target.agent,
        "stream": target.stream,
        "instance": target.instance,
    }


async def _check_copy(connection: Connection, entries: list[list[bytes]]) -> None:
    """Refuse claims on files of a copy in which another session works. Raises HeldError."""
    if any(b"INTENT" in entry for entry in entries):
        # Takes longer to import than a signal takes to send.
        from fabric.client.occupancy import check

        await check(connection.store, lambda session: connection.keys(session)[1], entries)


async def _try_to_merge(connection: Connection, entries: list[list[bytes]]) -> None:
    """Have git try to merge what was given back, if other copies have written the same."""
    parting = [entry for entry in entries if not GIVING_BACK.isdisjoint(entry)]
    for session in dict.fromkeys(decode(entry).session for entry in parting):
        partition, keys = connection.keys(session)
        if await connection.store.hashes([keys.written]) == [{}]:
            continue
        # Takes longer to import than a signal takes to send.
        from fabric.client.trial import report_here

        emitter = connection.emitter(partition.number)
        await report_here(connection.session(session), emitter, connection.target.workspace)


async def _submit(
    connection: Connection, entries: list[list[bytes]], when_full: WhenFull
) -> list[str]:
    await _check_copy(connection, entries)
    sent = await submit(
        connection.store,
        connection.partitions,
        entries,
        ingress_max=connection.target.ingress_max,
        limit_ms=connection.limit_ms,
        when_full=when_full,
    )
    await _try_to_merge(connection, entries)
    return sent


async def _confirm(
    connection: Connection, entry: list[bytes], when_full: WhenFull, timeout_s: float
) -> Confirmed:
    await _check_copy(connection, [entry])
    # Takes longer to import than a signal takes to send.
    from fabric.client.sent_signal import SentSignal, confirm

    partition, keys = connection.keys(decode(entry).session)
    emitter = connection.emitter(partition.number, when_full)
    sent = SentSignal(connection.store, partition, emitter, keys.log)
    found = await confirm(sent, keys, entry, timeout_s=timeout_s)
    await _try_to_merge(connection, [entry])
    return found


def _report(found: Confirmed, *, quiet: bool, as_json: bool, line: int | None = None) -> None:
    """Print what became of a signal; the caller reports a refusal."""
    if as_json and not quiet:
        head = {} if line is None else {"line": line}
        why = {} if found.refusal is None else found.refusal._asdict()
        what = {"id": found.id, "log": found.log, "outcome": found.outcome}
        click.echo(json_line({**head, **what, **why}))
    elif not quiet and found.refusal is None:
        click.echo(found.log)
    if found.is_repeat:
        where = "" if line is None else f"line {line}: "
        note(f"{where}a repeat of {found.log}: nothing has changed")


@dataclass
class _Feed:
    """Sends standard input line by line."""

    target: Target
    when_full: WhenFull
    quiet: bool
    as_json: bool
    strict: bool
    #: Seconds to wait for the decision on each line; None not to wait.
    confirm_s: float | None
    sent: int = 0
    refused: int = 0

    async def send_all(self) -> bool:
        """Send lines until the input ends; return whether all of them were good."""
        async with connected(self.target, founding=True, patience_s=None) as made:
            # Each line has the whole limit to itself.
            connection = replace(made, limit_ms=self.target.emit_limit_ms)
            async for lines in follow(sys.stdin.fileno()):
                good = self._check(lines)
                if self.confirm_s is not None:
                    await self._send_confirmed(connection, good, self.confirm_s)
                elif good:
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
                entry = prepare(document(line), _defaults(self.target), self.target.workspace)
                good.append((number, entry))
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

    async def _send_confirmed(
        self, connection: Connection, good: list[tuple[int, list[bytes]]], timeout_s: float
    ) -> None:
        """Send each line when the one before it is decided; report those that are refused."""
        for number, entry in good:
            try:
                found = await _confirm(connection, entry, self.when_full, timeout_s)
            except FabricError:
                note(f"stopped at line {number}; {self.sent} signals before it were accepted")
                raise
            _report(found, quiet=self.quiet, as_json=self.as_json, line=number)
            if found.refusal is None:
                self.sent += 1
                continue
            self.refused += 1
            note(f"line {number}: {found.refusal}")
            if self.strict:
                return
