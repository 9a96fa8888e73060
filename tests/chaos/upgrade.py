"""Another version of this project beside this one, and a rolling upgrade between the two.

The other version is a commit's `fabric` and `workers`, with the agents and tools of these tests.
Both run in the same Python environment.
"""

import io
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

from tests.chaos.context import Context
from tests.chaos.process import WORKERS
from tests.support.servers import ROOT

#: Packages of a version.
PACKAGES = ("fabric", "workers")


def tree(revision: str) -> Path:
    """Extract a commit's source into a folder, and return that.

    Raises CalledProcessError when there is no such commit; a shallow clone may lack it.
    """
    known = _git("rev-parse", "--verify", f"{revision}^{{commit}}").decode().strip()
    folder = ROOT / "build" / "versions" / known
    archive = _git("archive", "--format=tar", known, *PACKAGES)
    shutil.rmtree(folder, ignore_errors=True)
    with tarfile.open(fileobj=io.BytesIO(archive)) as packed:
        packed.extractall(folder, filter="data")
    shutil.copytree(
        ROOT / "tests", folder / "tests", ignore=shutil.ignore_patterns("__pycache__", "*.txt")
    )
    return folder


def roll(context: Context) -> Iterator[str]:
    """Replace every worker by one of the other version, one after the other."""
    slots = context.fleet.of(*WORKERS)
    trees = list(dict.fromkeys(slot.tree for slot in context.fleet.slots))
    other = next(one for one in trees if one != slots[0].tree)
    name = "this version" if other == ROOT else "the other version"
    for slot in slots:
        slot.end()
        slot.tree = other
        slot.start()
        yield f"a worker of {name} in its place"


def _git(*arguments: str) -> bytes:
    git = shutil.which("git") or "git"
    return subprocess.run([git, *arguments], cwd=ROOT, check=True, capture_output=True).stdout
