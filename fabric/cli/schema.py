"""`fabric schema`: the JSON Schema of the signals."""

from __future__ import annotations

import click

from fabric.cli.options import json_option
from fabric.cli.output import print_json
from fabric.core.signal import SignalType
from fabric.wire.schema import document_schema, payload_schema


@click.command(short_help="Print the JSON Schema of the signals.")
@click.argument(
    "kind", metavar="[TYPE]", type=click.Choice([*map(str, SignalType)]), required=False
)
@click.option("--payload", is_flag=True, help="Of the payload alone.")
@json_option
def command(kind: str | None, payload: bool, as_json: bool) -> None:
    """Print the JSON Schema (draft 2020-12) of a signal of one type, or of any.

    It holds for every spelling: as `fabric emit` and `fabric emit -` take them.
    """
    if payload:
        if kind is None:
            raise click.UsageError("--payload of which TYPE?")
        print_json(payload_schema(SignalType(kind)))
    else:
        print_json(document_schema(None if kind is None else SignalType(kind)))
