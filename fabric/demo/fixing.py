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
import sys
from collections import Counter
from collections.abc import Collection, Sequence
from hashlib import sha256
from pathlib import Path

import msgspec

from fabric import Agent, BarrierError, Fabric, WaitTimeoutError
from fabric.core.resource import is_glob, normalise
from fabric.demo import fleet
from fabric.demo.analysers import AnalyserError, ruff, run_tool
from fabric.demo.fleet import Member, remark
from fabric.demo.index import build
from fabric.demo.tree import Tree, open_snapshot

#: Files of the copy, enough to see the fixers meet; bytes of one; files that are considered.
FILES_MAX, FILE_BYTES_MAX, CANDIDATES_MAX = 3, 32_000, 100

#: Time between reading a file and writing it, s: where an editor or a model would think.
EDIT_S = 0.3

#: Time for one run of ruff, s.
RUFF_S_MAX = 30

#: Longest wait for the copy, a turn, the check; for others to ask, to edit, to arrive; s.
WAIT_S_MAX, OTHERS_S_MAX = 120, 20

#: The claims are read again after so long, s.
LOOK_S = 0.05

#: All files that are edited, as one resource.
ALL = "fixed/**"

#: What ruff mends, besides the order of imports. RUF100 would take comments away that belong to
#: rules which are not in use here.
FIXES, FIXES_IGNORED = "E,W,F,B,C4,COM,FURB,I,PIE,RET,RUF,SIM,UP", "RUF100"
_RUFF = ("--isolated", "--no-cache", "--quiet")


class Edit(msgspec.Struct, frozen=True):
    """One entry of a file's journal: who has edited it under which fencing token, and the checksums
    of what it read and wrote.
    """

    agent: str
    token: int
    read: str
    wrote: str


class Workshop:
    """The scratch copy: `before/` and `fixed/` hold the files, `edits/` a journal for each."""

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
                target = folder / part / path
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(b"" if part == "edits" else tree.read(path))
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
            (target / path).parent.mkdir(parents=True, exist_ok=True)
            (target / path).write_bytes(self.read(path))

    def read(self, path: str, part: str = "fixed") -> bytes:
        """Return a file as it is, or as it was `before`."""
        return (self._folder / part / path).read_bytes()

    async def edited(self, agent: str, path: str, data: bytes) -> bytes:
        """Return what an agent makes of a file: the same when ruff fails on it."""
        what = ("check", "--fix", "--exit-zero", "--select", FIXES, "--ignore", FIXES_IGNORED)
        arguments = ["ruff", *(("format",) if agent == fleet.FIXERS[0].name else what), *_RUFF]
        arguments += [*self._options, "--stdin-filename", path, "-"]
        try:
            code, out, _ = await run_tool(arguments, str(self._folder), RUFF_S_MAX, data)
        except (AnalyserError, OSError):
            return data
        return out if code == 0 and (out or not data) else data

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


def checksum(data: bytes) -> str:
    """Return a checksum of a file."""
    return sha256(data).hexdigest()


def resource(path: str) -> str:
    """Return the name under which agents ask for a file: it is the copy's, not the user's own."""
    return f"fixed/{path}"


def passed(number: int, count: int) -> str:
    """Return the name of a fixer's checkpoint after file `number` (from 1) of `count`."""
    return f"file {number} of {count}"


async def _choose(tree: Tree) -> list[str]:
    """Return small files that parse, those with the most to fix first."""
    some = build(msgspec.structs.replace(tree, files=tree.files[:CANDIDATES_MAX])).modules
    fit = [
        path
        for path in (module.path for module in some if not module.problem)
        # The path must be the name of one resource.
        if len(tree.read(path)) <= FILE_BYTES_MAX and not is_glob(path) and normalise(path) == path
    ]
    found = await ruff(FIXES, {}, FIXES_IGNORED).run(tree, fit) if fit else []
    broken = {one.path for one in found if one.rule in ("not-reviewed", "io-error")}
    counts = Counter(one.path for one in found if not one.recommendation.startswith("See "))
    editable = [path for path in fit if path not in broken]
    return sorted(editable, key=lambda path: -counts[path])[:FILES_MAX]


async def integrate(agent: Agent, scratch: Path) -> None:
    """Make the copy, see that it is fixed in order, and check it.

    Raises FabricError, OSError, and ValueError when an edit was lost.
    """
    async with agent.writing(ALL, timeout=WAIT_S_MAX):
        tree = open_snapshot(scratch)
        workshop = Workshop.make(tree, await _choose(tree), scratch / fleet.COPY_FOLDER)
        await agent.resolve(fleet.COPY_DEPENDENCY, location=str(scratch / fleet.COPY_FOLDER))
        if workshop.files:
            # All files are kept until both fixers want the first, so that their priorities decide.
            await _until_asked(
                agent, [one.name for one in fleet.FIXERS], resource(workshop.files[0])
            )
    await agent.progress(50)
    if workshop.files:
        edited = await _until_edited(agent, passed(1, len(workshop.files)))
        await _check(agent, workshop, edited)
    else:
        await remark(agent, "There is no file that can be edited safely.")
    await agent.resolve(fleet.CHECK_DEPENDENCY, consumers=[fixer.name for fixer in fleet.FIXERS])
    await agent.complete({"files": len(workshop.files)})


async def fix(agent: Agent, member: Member) -> None:
    """Edit every file of the copy as one of the fixers. Raises FabricError, OSError."""
    folder = await agent.wait_for(fleet.COPY_DEPENDENCY, timeout=WAIT_S_MAX)
    workshop = Workshop(Path(folder or ""))
    count = len(workshop.files)
    if workshop.files:
        # Ask after those that come earlier in fleet.FIXERS, so that it is known who asked first.
        earlier = [other.name for other in fleet.FIXERS[: fleet.FIXERS.index(member)]]
        await _until_asked(agent, earlier, resource(workshop.files[0]))
    for number, path in enumerate(workshop.files, 1):
        async with agent.writing(resource(path), timeout=WAIT_S_MAX) as grant:
            # What another agent wrote between reading and writing would be lost, if any could.
            data = workshop.read(path)
            await asyncio.sleep(EDIT_S)
            edited = await workshop.edited(agent.name, path, data)
            edit = Edit(agent.name, grant.token, checksum(data), checksum(edited))
            workshop.write(path, edit, edited)
        await agent.progress(100 * number // count)
        await agent.checkpoint(passed(number, count))
    await agent.wait_for(fleet.CHECK_DEPENDENCY, timeout=WAIT_S_MAX)
    await agent.complete({"files": count})


async def _until_asked(agent: Agent, names: Collection[str], wanted: str) -> None:
    """Wait until each of these agents has a resource or waits for it."""
    missing = set(names)
    try:
        async with asyncio.timeout(OTHERS_S_MAX):
            while missing:
                claims = (await agent.session.claims()).values()
                missing -= {claim.agent for claim in claims if wanted in claim.writes}
                if missing:
                    await asyncio.sleep(LOOK_S)
    except TimeoutError:
        await remark(agent, f"{', '.join(sorted(missing))} had not asked for {wanted} in time.")


async def _until_edited(agent: Agent, checkpoint: str) -> set[str]:
    """Listen until each fixer says that it is past the first file; return those that have."""
    fixers = {fixer.name for fixer in fleet.FIXERS}
    missing = set(fixers)
    try:
        async with asyncio.timeout(OTHERS_S_MAX):
            async for message in agent.messages():
                if message.payload.get("checkpoint") == checkpoint:
                    missing.discard(message.sender)
                if not missing:
                    break
    except TimeoutError:
        await remark(agent, f"{', '.join(sorted(missing))} did not get to {checkpoint} in time.")
    return fixers - missing


async def _check(agent: Agent, workshop: Workshop, edited: set[str]) -> None:
    """Meet all at a barrier and report which edits are in which file then; `edited` are those that
    say they have edited the first one.
    """
    try:
        async with agent.integrating(fleet.FIXES_BARRIER, timeout=WAIT_S_MAX):
            made = workshop.made()
            lost = [path for path, edits in made.items() if edits is None]
            if lost or edited - set(made[workshop.files[0]] or ()):
                raise ValueError(
                    f"an edit was overwritten in {', '.join(lost or workshop.files[:1])}"
                )
            await agent.partial_result({"edits at the barrier": made})
            if workshop.made() != made:
                raise ValueError("a file was written while all were to stand still")
    except (BarrierError, WaitTimeoutError) as error:
        await remark(agent, f"The fixes were not checked: {error}")


async def work(member: Member, scratch: Path, path: str) -> None:
    """Run one of the three to its end."""
    is_integrator = member is fleet.INTEGRATOR
    async with (
        Fabric.connect() as fabric,
        fabric.agent(
            member.name,
            stream=member.stream,
            priority=member.priority,
            task=f"a scratch copy of {path}" if is_integrator else f"edits by {member.name}",
            parallel_group="fix",
            produces=member.produces,
        ) as agent,
    ):
        await (integrate(agent, scratch) if is_integrator else fix(agent, member))


if __name__ == "__main__":
    name, scratch, path = sys.argv[1:4]
    sys.exit(fleet.run(name, work(fleet.member_of(name), Path(scratch), path)))
