"""`fabric synthesizer`: one replica of the workers that build the result."""

from __future__ import annotations

from fabric.cli.daemon import daemon

command = daemon("synthesizer", "take results in and build the document they make together.")
