"""`fabric keys` and `fabric schema`: what is stored, and what can be sent."""

from __future__ import annotations

import click

from fabric.cli.connect import Target, connected, json_option, on_session, url_of
from fabric.cli.output import note, print_json, print_lines
from fabric.core.signal import SignalType
from fabric.ops.overview import Key, redis_cli, redis_keys
from fabric.wire.schema import document_schema, payload_schema


@click.command()
@on_session
@json_option
async def keys(target: Target, as_json: bool) -> None:
    """Print a redis-cli command for each key, with a note on what the key holds.

    \b
      fabric keys demo      the keys of one session
      fabric keys           those of FABRIC_SESSION; without it, of the whole namespace

    The commands contain no password: set REDISCLI_AUTH instead.
    """
    found = await all_keys(target, target.session)
    if as_json:
        print_json([key._asdict() for key in found])
        return
    if redis_cli(url_of(target))[1]:
        note("put the password into REDISCLI_AUTH")
    width = max(len(key.command) for key in found)
    print_lines(f"{key.command:<{width}}  # {key.meaning}" for key in found)


async def all_keys(target: Target, session: str | None) -> list[Key]:
    """Return the keys of a session, or without one those of the namespace."""
    async with connected(target) as connection:
        named = None if session is None else connection.keys(session)
        return await redis_keys(connection.store, url_of(target), connection.partitions, named)


@click.command()
@click.argument(
    "kind", metavar="[TYPE]", type=click.Choice([*map(str, SignalType)]), required=False
)
@click.option("--payload", is_flag=True, help="Print the schema of the payload alone.")
@json_option
def schema(kind: str | None, payload: bool, as_json: bool) -> None:
    """Print the JSON Schema (draft 2020-12) of signals, of one TYPE or of all.

    \b
      fabric schema                    any signal
      fabric schema BLOCKED            a BLOCKED signal
      fabric schema BLOCKED --payload  only its payload

    A document that fits the schema is accepted by `fabric emit -`, in each of its spellings.
    """
    if not payload:
        print_json(document_schema(None if kind is None else SignalType(kind)))
    elif kind is None:
        raise click.UsageError("--payload needs a TYPE")
    else:
        print_json(payload_schema(SignalType(kind)))
