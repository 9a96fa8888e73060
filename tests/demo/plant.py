"""Small trees of Python files, as snapshots."""

import os
from collections.abc import Mapping
from pathlib import Path

from fabric.demo.tree import Tree, take_snapshot

#: A file that aborts ruff, and one that vulture cannot walk.
ABORTS_RUFF = "x = " + "-" * 100_000 + "1\n"
TOO_DEEP = "x = " + "+".join(["1"] * 5_000) + "\n"


def plant(folder: Path, files: Mapping[str, str]) -> Tree:
    """Write files into a folder and take a snapshot of them."""
    for name, text in files.items():
        path = folder / "code" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (folder / "scratch").mkdir()
    return take_snapshot(os.fspath(folder / "code"), folder / "scratch")
