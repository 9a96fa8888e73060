"""`fabric finding` and `fabric add`: report one finding, or add to shared totals, as an agent."""

from __future__ import annotations

from typing import Any

import click
import msgspec

from fabric.cli.connect import Target, json_option, on_target
from fabric.cli.emit import TIMEOUT_S, decides, send
from fabric.client.emitter import prepare

#: As `fabric emit` has it: the result of an agent that has ended is refused, and is heard of here.
confirm_option = click.option(
    "--confirm/--no-confirm",
    "is_confirmed",
    default=None,
    help="Wait until it is decided; print the log id, or why it was refused (exit code 4). "
    "Default: if stdout is a terminal.",
)


@click.command()
@click.argument("path", required=False)
@click.argument("line", type=click.IntRange(min=1), required=False)
@on_target("session", "agent", "stream")
@click.option("--key", help="The subject; without it, path, line and rule.")
@click.option("--rule", help="The rule that is broken, as the tool names it.")
@click.option("--severity", help="critical, high, medium, low or info.")
@click.option("--message", "-m", help="What was found, in a sentence.")
@click.option("--title", help="A short title.")
@click.option("--end-line", type=click.IntRange(min=1), help="The last line of the place.")
@click.option("--suggestion", help="Text to put there instead.")
@click.option("--url", help="Where more is said about it.")
@click.option("--source", help="The tool, or the paper, that says so.")
@click.option("--confidence", type=click.FloatRange(0, 1), help="How sure you are, 0 to 1.")
@click.option("--same-as", multiple=True, metavar="KEY", help="A finding that is the same thing.")
@click.option("--distinct-from", multiple=True, metavar="KEY", help="One that is another thing.")
@click.option("--value", metavar="JSON", help="The value; any text that is no JSON is a text.")
@click.option("--evidence", metavar="JSON", help="The reason.")
@confirm_option
@json_option
async def finding(target: Target, is_confirmed: bool | None, as_json: bool, **fields: Any) -> None:
    """Report one finding of an agent, and print the signal's id.

    \b
      fabric finding a.py 42 --rule sql-injection --severity high -m "built from user input"
      fabric finding --key port --value 5432

    Agents that report the same rule at the same place speak of one finding.
    """
    found = {name: value for name, value in fields.items() if value not in (None, ())}
    for name in ("value", "evidence"):
        if name in found:
            found[name] = _json(found[name])
    await _hand_over(target, {"findings": [found]}, is_confirmed, as_json=as_json)


@click.command()
@click.argument("counts", nargs=-1, required=True, metavar="NAME=NUMBER...")
@on_target("session", "agent", "stream")
@confirm_option
@json_option
async def add(
    target: Target, counts: tuple[str, ...], is_confirmed: bool | None, as_json: bool
) -> None:
    """Add numbers to totals that all agents share.

    \b
      fabric add tests=3 failures=1
    """
    partial = {}
    for text in counts:
        name, mark, number = text.partition("=")
        value = _json(number)
        if not (name and mark) or isinstance(value, bool) or not isinstance(value, int | float):
            raise click.UsageError(f"'{text}' is not NAME=NUMBER")
        partial[name] = {"$add": value}
    await _hand_over(target, partial, is_confirmed, as_json=as_json)


def _json(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError):
        return text


async def _hand_over(
    target: Target, partial: dict[str, Any], is_confirmed: bool | None, *, as_json: bool
) -> None:
    document = {"type": "PARTIAL_RESULT", "payload": {"partial": partial}}
    who = {"session": target.need("session"), "emitter": target.need("agent")}
    entry = prepare(document, {**who, "stream": target.stream})
    await send(target, entry, TIMEOUT_S if decides(is_confirmed) else None, as_json=as_json)
