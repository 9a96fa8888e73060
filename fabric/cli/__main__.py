"""`python -m fabric.cli`: the command line without its script."""

from __future__ import annotations

import sys

from fabric.cli import main

sys.exit(main())
