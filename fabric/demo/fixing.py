"""The agents that work on the scratch copy: `python -m fabric.demo.fixing NAME SCRATCH PATH`.

INTEGRATOR has all files to itself while it makes the copy. FORMATTER and FIXER edit the same files
in the same order and do not know of each other: each asks for a file, edits it when it is its turn,
gives it back, and is at a safe place before the next one. When both have edited the first file,
INTEGRATOR calls for an integration: all run to their next checkpoint and stop, so that it can check
files that nobody is writing.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

import msgspec

from fabric import Agent, BarrierError, WaitTimeoutError
from fabric.core.resource import is_glob, normalise
from fabric.demo import fleet
from fabric.demo.analysers import AnalyserError, ruff, run_tool
from fabric.demo.tree import Tree, build_index, open_snapshot

#: Files of the copy, enough to see the fixers meet; bytes of one; files that are considered.
FILES_MAX, FILE_BYTES_MAX, CANDIDATES_MAX = 3, 32_000, 100

#: Time between reading a file and writing it, where an editor or a model would think; for one run
#: of ruff; s.
EDIT_S, RUFF_S_MAX = 0.3, 30

#: Longest wait for the copy, a turn, the check; for others to ask, to edit, to arrive; and how long
#: until the claims are read again; s.
WAIT_S_MAX, OTHERS_S_MAX, LOOK_S = 120, 20, 0.05

#: What ruff mends, besides the order of imports. RUF100 would take comments away that belong to
#: rules which are not in use here.
FIXES, FIXES_IGNORED = "E,W,F,B,C4,COM,FURB,I,PIE,RET,RUF,SIM,UP", "RUF100"

_RUFF = {
    fleet.FIXER.name: f"check --fix --exit-zero --select {FIXES} --ignore {FIXES_IGNORED}",
    fleet.FORMATTER.name: "format",
}


class Edit(msgspec.Struct, frozen=True):
    """One entry of a file's journal: who has edited it under which fencing token, and the checksums
    of what it read and wrote.
    """

    agent: str
    token: int
    read: str
    wrote: str


class Workshop:
    """The scratch copy: `before/` and `fixed/` hold the files, `edits/` a journal for each.

    Raises FileNotFoundError when there is no copy.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        #: Paths in the order in which they are to be fixed, and options for ruff.
        self.files: list[str]
        self.files, self._options = json.loads((folder / "copy.json").read_bytes())

    @staticmethod
    def make(tree: Tree, files: Sequence[str], folder: Path) -> Workshop:
        """Copy some files of a snapshot into `folder`, a new one."""
        folder.mkdir()
        for path in files:
            for part in ("before", "fixed", "edits"):
                _put(folder / part / path, b"" if part == "edits" else tree.read(path))
        own = {tree.package.partition(".")[0] or path.partition("/")[0] for path in tree.files}
        names = json.dumps(sorted(name for name in own if name.isidentifier()))
        options = ["--config", f"lint.isort.known-first-party={names}"]
        if tree.line_length:
            options += ["--config", f"line-length={tree.line_length}"]
        (folder / "copy.json").write_text(json.dumps([files, options]))
        return Workshop(folder)

    def hand_over(self, target: Path) -> None:
        """Put the files as they are into a folder that may not be there. Raises OSError."""
        target.mkdir(parents=True, exist_ok=True)
        for path in self.files:
            _put(target / path, self.read(path))

    def read(self, path: str, part: str = "fixed") -> bytes:
        """Return a file as it is, or as it was `before`."""
        return (self._folder / part / path).read_bytes()

    async def edited(self, agent: str, path: str, data: bytes) -> bytes:
        """Return what an agent makes of a file: the same when ruff fails on it."""
        desk = self._folder / agent
        _put(desk / path, data)
        how = [*_RUFF[agent].split(), "--isolated", "--no-cache", "--quiet", *self._options]
        try:
            code, _, _ = await run_tool(["ruff", *how, f"./{path}"], str(desk), RUFF_S_MAX)
        except (AnalyserError, OSError):
            return data
        return data if code else (desk / path).read_bytes()

    def write(self, path: str, edit: Edit, data: bytes) -> None:
        """Put an edited file in place, whole, and note the edit."""
        new = self._folder / f"{edit.agent}.new"
        new.write_bytes(data)
        new.replace(self._folder / "fixed" / path)
        with (self._folder / "edits" / path).open("ab") as journal:
            journal.write(msgspec.json.encode(edit) + b"\n")

    def made(self) -> dict[str, tuple[str, ...] | None]:
        """Return file → who has edited it, in order; None where an edit was overwritten.

        Each edit must have read what the one before wrote, and the file be what the last one wrote.
        """
        found: dict[str, tuple[str, ...] | None] = {}
        for path in self.files:
            edits = msgspec.json.Decoder(Edit).decode_lines(self.read(path, "edits"))
            wrote = [checksum(self.read(path, "before")), *(edit.wrote for edit in edits)]
            read = [*(edit.read for edit in edits), checksum(self.read(path))]
            found[path] = tuple(edit.agent for edit in edits) if read == wrote else None
        return found


def _put(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def checksum(data: bytes) -> str:
    """Return a checksum of a file."""
    return sha256(data).hexdigest()


def resource(path: str) -> str:
    """Return the name under which agents ask for a file: it is the copy's, not the user's own."""
    return f"fixed/{path}"


async def _choose(tree: Tree) -> list[str]:
    """Return small files that parse, those with the most to fix first."""
    some = build_index(msgspec.structs.replace(tree, files=tree.files[:CANDIDATES_MAX]))
    fit = [
        path
        for path in (module.path for module in some if not module.problem)
        # The path must be the name of one resource.
        if len(tree.read(path)) <= FILE_BYTES_MAX and not is_glob(path) and normalise(path) == path
    ]
    found = await ruff(FIXES, {}, FIXES_IGNORED).run(tree, fit) if fit else []
    broken = {one.path for one in found if one.rule in ("not-reviewed", "io-error")}
    counts = Counter(one.path for one in found if not one.recommendation.startswith("See "))
    return sorted(set(fit) - broken, key=lambda path: (-counts[path], fit.index(path)))[:FILES_MAX]


async def integrate(agent: Agent, scratch: Path) -> dict[str, int]:
    """Make the copy, see that it is fixed in order, and check it; return the number of files.

    Raises FabricError, OSError, and ValueError when an edit was lost.
    """
    folder = scratch / fleet.COPY_FOLDER
    async with agent.writing(resource("**"), timeout=WAIT_S_MAX):
        tree = open_snapshot(scratch)
        workshop = Workshop.make(tree, await _choose(tree), folder)
        await agent.resolve(fleet.COPY_DEPENDENCY, location=str(folder))
        # All files are kept until both fixers want the first, so that their priorities decide.
        await _until_asked(agent, set(_RUFF), workshop)
    await agent.progress(50)
    if workshop.files:
        await _check(agent, workshop)
    else:
        await fleet.remark(agent, "There is no file that can be edited safely.")
    await agent.resolve(fleet.CHECK_DEPENDENCY, consumers=sorted(_RUFF))
    return {"files": len(workshop.files)}


async def fix(agent: Agent, _scratch: Path) -> dict[str, int]:
    """Edit every file of the copy as one of the fixers; return their number.

    Raises FabricError, OSError.
    """
    folder = await agent.wait_for(fleet.COPY_DEPENDENCY, timeout=WAIT_S_MAX)
    workshop = Workshop(Path(folder or ""))
    count = len(workshop.files)
    # FIXER asks after FORMATTER, so that it is known who asked first.
    await _until_asked(agent, {fleet.FORMATTER.name} - {agent.name}, workshop)
    for number, path in enumerate(workshop.files, 1):
        async with agent.writing(resource(path), timeout=WAIT_S_MAX) as grant:
            # What another agent wrote between reading and writing would be lost, if any could.
            data = workshop.read(path)
            await asyncio.sleep(EDIT_S)
            edited = await workshop.edited(agent.name, path, data)
            edit = Edit(agent.name, grant.token, checksum(data), checksum(edited))
            workshop.write(path, edit, edited)
        await agent.progress(100 * number // count)
        await agent.checkpoint(_passed(number, workshop))
    await agent.wait_for(fleet.CHECK_DEPENDENCY, timeout=WAIT_S_MAX)
    return {"files": count}


def _passed(number: int, workshop: Workshop) -> str:
    """Return the name of a fixer's checkpoint after file `number`, counted from 1."""
    return f"file {number} of {len(workshop.files)}"


async def _until_asked(agent: Agent, missing: set[str], workshop: Workshop) -> None:
    """Wait until each of the agents in `missing` has the first file or waits for it."""
    for wanted in map(resource, workshop.files[:1]):
        late = f"had not asked for {wanted} in time."
        async with fleet.at_most(OTHERS_S_MAX, agent, missing, late):
            while missing:
                claims = (await agent.session.claims()).values()
                missing -= {claim.agent for claim in claims if wanted in claim.writes}
                await asyncio.sleep(LOOK_S if missing else 0)


async def _check(agent: Agent, workshop: Workshop) -> None:
    """Wait for the fixers to be past the first file, meet all at a barrier, and report which edits
    are in which file then.
    """
    first, missing = _passed(1, workshop), set(_RUFF)
    async with fleet.at_most(OTHERS_S_MAX, agent, missing, f"did not get to {first} in time."):
        async for message in agent.messages():
            if message.payload.get("checkpoint") == first:
                missing.discard(message.sender)
            if not missing:
                break
    try:
        async with agent.integrating("fixes", timeout=WAIT_S_MAX):
            made = workshop.made()
            lost = [path for path, edits in made.items() if edits is None]
            if not lost and not _RUFF.keys() - missing <= set(made[workshop.files[0]] or ()):
                lost = workshop.files[:1]
            if lost:
                raise ValueError(f"an edit was overwritten in {', '.join(lost)}")
            await agent.partial_result({"edits at the barrier": made})
            if workshop.made() != made:
                raise ValueError("a file was written while all were to stand still")
    except (BarrierError, WaitTimeoutError) as error:
        await fleet.remark(agent, f"The fixes were not checked: {error}")


if __name__ == "__main__":
    fleet.main(dict.fromkeys(_RUFF, fix) | {fleet.INTEGRATOR.name: integrate})
