"""`fabric orchestrator`: one replica of the workers that route signals."""

from __future__ import annotations

from fabric.cli.daemon import daemon

command = daemon("orchestrator", "take signals in, decide by rules, tell the agents.")
