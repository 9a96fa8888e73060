"""IMPORTS: imports that nobody uses, stars, and modules that import each other in a circle."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from fabric.demo.cycle import Cycle, cycles
from fabric.demo.excerpt import excerpt
from fabric.demo.finding import Finding, Rule, Severity
from fabric.demo.resolution import Resolver
from fabric.demo.reviews.review import found
from fabric.demo.source import Source
from fabric.demo.symbols import FileSymbols, Import, Index

#: Modules of a cycle that the message names one after the other.
CYCLE_NAMED_MAX = 12

IMPORT_CYCLE = Rule(
    "import-cycle",
    Severity.MEDIUM,
    "Move what both need into a third module, or import inside the function.",
)
STAR_IMPORT = Rule(
    "star-import", Severity.MEDIUM, "Import the names that are used, so that a reader finds them."
)
UNUSED_IMPORT = Rule(
    "unused-import",
    Severity.LOW,
    "Remove it; write `import x as x` where it is meant for others.",
    0.9,
)

#: Modules imported for what they do, not for a name.
_FOR_EFFECT = frozenset(
    {"readline", "rlcompleter", "this", "antigravity", "sitecustomize", "usercustomize"}
)


class Imports:
    """Judges the imports of each file against the index of the whole tree.

    A cycle is reported once, at the import with which its first module enters it.
    """

    rules = (IMPORT_CYCLE, STAR_IMPORT, UNUSED_IMPORT)

    def __init__(self, index: Index) -> None:
        self._files = {file.path: file for file in index.files}
        resolver = Resolver(index)
        edges: dict[str, dict[str, int]] = {}
        self._taken: dict[str, set[str]] = defaultdict(set)
        self._open: set[str] = set()
        for file in index.files:
            edges[file.path] = {}
            for item in file.imports:
                for path, name in resolver.targets(file, item):
                    self._take(file, path, name)
                    if not item.deferred and path != file.path:
                        edges[file.path].setdefault(path, item.statement_line)
        self._edges = edges
        self._cycles = {
            cycle.path[0]: cycle for cycle in cycles({path: list(to) for path, to in edges.items()})
        }

    def check(self, source: Source) -> Iterator[Finding]:
        """Yield what is wrong in one file; nothing for a file that is not in the index."""
        file = self._files.get(source.path)
        if file is None:
            return
        if source.path in self._cycles:
            yield self._cycle(source, self._cycles[source.path])
        # A package's __init__ imports for others; that is what it is for.
        if source.name == "__init__.py":
            return
        silenced = _silenced(source)
        for item in file.imports:
            if item.line in silenced or item.statement_line in silenced:
                continue
            if item.name == "*":
                dots = "." * item.level
                message = f"every public name of `{excerpt(dots + item.module)}` is imported"
                yield found(source, STAR_IMPORT, item.line, message)
            elif self._is_unused(file, item):
                yield found(
                    source,
                    UNUSED_IMPORT,
                    item.line,
                    f"`{excerpt(item.bound)}` is imported, but not used",
                )

    def _take(self, file: FileSymbols, path: str, name: str) -> None:
        """Note which names of `path` another file takes: those are re-exported."""
        if name == "*":
            self._open.add(path)
        elif name:
            self._taken[path].add(name)
        else:
            self._taken[path].update(file.attributes)

    def _is_unused(self, file: FileSymbols, item: Import) -> bool:
        if item.explicit or item.guarded or item.module == "__future__" or item.bound == "_":
            return False
        # `import a.b` also makes `b` an attribute of an `a` that is known by another name.
        if not item.name and item.module.rpartition(".")[2] in file.attributes:
            return False
        if (
            item.bound in file.names
            or item.bound in file.exports
            or item.bound in self._taken[file.path]
        ):
            return False
        return file.path not in self._open and item.module not in _FOR_EFFECT

    def _cycle(self, source: Source, cycle: Cycle) -> Finding:
        names = [self._files[path].module or path for path in cycle.path]
        shown = names[:CYCLE_NAMED_MAX]
        if len(names) > CYCLE_NAMED_MAX:
            shown.append(f"({len(names) - CYCLE_NAMED_MAX} more)")
        message = " → ".join(f"`{excerpt(name)}`" for name in [*shown, names[0]])
        if cycle.members > len(names):
            message += f"; {cycle.members} modules hang together in this way"
        line = self._edges[cycle.path[0]][cycle.path[1]]
        return found(source, IMPORT_CYCLE, line, message, measure=cycle.members)


def _silenced(source: Source) -> set[int]:
    """Return the lines on which the author has told linters to look away."""
    if "noqa" not in source.text:
        return set()
    return {number for number, line in enumerate(source.lines, 1) if "noqa" in line}
