"""Style that a machine can check: each rule reads files and returns what is wrong, a line each.

After TigerBeetle's tidy: what these rules find fails the tests, and a file that needs to be longer
is written down with its size and its reason, so that sizes go down and never quietly up.
"""

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

#: Folders whose code the rules read.
FOLDERS = ("fabric", "workers", "tests", "benchmarks")
#: A file of this many lines is too long to be read in one sitting.
FILE_LINES_LIMIT = 500
#: A function of this many lines does not fit on a screen.
FUNCTION_LINES_LIMIT = 70
#: Characters that a reason needs to be one ("x" is none).
REASON_CHARS_MIN = 10
#: Names that say nothing about what is inside.
NAMES_EMPTY = frozenset({"util", "utils", "helper", "helpers", "common", "misc", "model", "models"})

#: Modules of `fabric/core/`, and imports of one by another. Lower them when the core shrinks; a
#: number that must grow says that a feature is being cut into pieces, or that two are entangled.
#: The task board added two: `task` says what a task is, for loader and plan too; `board` has the
#: rules, and `assignment` those of offers, which the balancing of load builds on. The plan added
#: two: what is parallel and why (`plan`), and list scheduling (`schedule`); with eleven imports,
#: since it asks the rules of a run instead of copying them.
#: `quota` is a kind of wait of its own: for a time, by many, and without a producer.
#: `need` is what plan and balancer share: a task's claims and triggers; `balance` chooses.
#: `policy` has the choices that rules offer, so that `rules` stays readable in one sitting.
#: `wait_graph` searches, for `why` and liveness too; `deadlock` acts on what it finds.
#: `delta` says what changes a value means, for readers of documents too; `typed` reads the fields
#: of findings.
#: `resource_name` is the one spelling of a resource, which senders use without the comparisons.
#: `run` closes a run and opens the next: it ends what all other modules keep.
#: `identity` says which process a name belongs to; `copies` what worktrees share, which the order
#: of claims asks, and `divergence` tells who wrote one file in several. `rule_table` has the rules
#: that are tables.
#: `canonical`, `compare`, `unit` and `dispute` say when values agree, and which holds if they do
#: not; `contributor` is what a synthesis knows of an agent.
#: `roster` has who is expected; `complete` says from that, and from the ends, what is final.
#: `relation` is what is said of keys as such: which are one, and which paths have other names.
#: `attention` asks about agents that go on without reading that they are to stop.
CORE_MODULES_MAX = 57
#: `handover` keeps what agents left unfinished: a file that the next one must look at first.
#: The end of a barrier grants what had to wait for it.
#: Claims and their order ask whether two copies or related agents exclude each other.
#: What is merged, published or decided asks whether two values agree.
#: Starts and ends of runs ask `roster`.
CORE_IMPORTS_MAX = 340

#: What the core must not see: clocks, chance, identity, the operating system, other threads.
CORE_FORBIDDEN = frozenset(
    {"asyncio", "concurrent", "importlib", "io", "logging", "multiprocessing", "os", "random"}
    | {"secrets", "select", "selectors", "shutil", "signal", "socket", "subprocess", "tempfile"}
    | {"threading", "time", "uuid"}
)
#: Builtins that do I/O, or (hash, id) differ between two runs on the same signals.
CORE_CALLS_FORBIDDEN = frozenset({"breakpoint", "hash", "id", "input", "open", "print"})
#: Methods that read a clock: datetime is welcome in the core to read and write times, no more.
CORE_METHODS_FORBIDDEN = frozenset({"now", "today", "utcnow"})


class Longer(NamedTuple):
    """A file that may be longer, up to this many lines, and why."""

    lines: int
    reason: str


#: Files over FILE_LINES_LIMIT, by path from the root; an entry goes when its file is short again.
LONGER: dict[str, Longer] = {}

#: A comment that silences a check: its codes, and what follows up to the next such comment.
SILENCER = re.compile(
    r"#\s*(?:noqa|type:\s*ignore)\b"
    r"(?P<codes>\s*:\s*[A-Z0-9, ]+\b|\[[^\]]*\])?"
    r"(?P<rest>(?:(?!#\s*noqa|#\s*type:).)*)"
)


def sources(root: Path) -> list[Path]:
    """Every Python and Lua file that is ours, in order."""
    found = (path for folder in FOLDERS for path in (root / folder).rglob("*"))
    return sorted(path for path in found if path.suffix in {".py", ".lua"})


def problems(root: Path, longer: dict[str, Longer] = LONGER) -> list[str]:
    """All that is wrong under root, as "path:line: what", in order."""
    found: list[str] = []
    for path in sources(root):
        name = path.relative_to(root).as_posix()
        text = path.read_text(encoding="utf-8")
        complaints = [*sizes(text, longer.get(name)), *names(name)]
        if path.suffix == ".py":
            tree = ast.parse(text, name)
            complaints += [*functions(tree), *reasons(text)]
            if name.startswith("fabric/core/"):
                complaints += purity(tree)
        found += [f"{name}:{line}: {what}" for line, what in complaints]
    missing = sorted(name for name in longer if not (root / name).is_file())
    found += core_size(root)
    return found + [f"{name}:1: listed as longer, and not there" for name in missing]


def sizes(text: str, allowed: Longer | None) -> Iterator[tuple[int, str]]:
    """A file is under FILE_LINES_LIMIT, or exactly as long as its entry in LONGER says at most."""
    lines = len(text.splitlines())
    if allowed is None:
        if lines >= FILE_LINES_LIMIT:
            yield lines, f"{lines} lines: split it, a file has under {FILE_LINES_LIMIT}"
    elif lines < FILE_LINES_LIMIT:
        yield lines, "short again: take its entry out of LONGER"
    elif lines > allowed.lines:
        yield lines, f"{lines} lines, {allowed.lines} allowed ({allowed.reason})"


def names(name: str) -> Iterator[tuple[int, str]]:
    """No file or folder is called after nothing."""
    for part in Path(name).with_suffix("").parts:
        if part.removeprefix("test_") in NAMES_EMPTY:
            yield 1, f'"{part}" says nothing: name it for what is inside'


def functions(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """A function is under FUNCTION_LINES_LIMIT, its signature and docstring included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines >= FUNCTION_LINES_LIMIT:
                yield (
                    node.lineno,
                    f"{node.name} has {lines} lines: split it",
                )


def reasons(text: str) -> Iterator[tuple[int, str]]:
    """A comment that silences a check says, after it on the same line, why it may."""
    if SILENCER.search(text) is None:  # most have none, and tokens take their time
        return
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type != tokenize.COMMENT:
            continue
        for match in SILENCER.finditer(token.string):
            if not match["codes"]:
                yield token.start[0], "silences every check: name the code"
            elif len(match["rest"].strip(" #:-–")) < REASON_CHARS_MIN:
                yield token.start[0], "silences a check without a reason beside it"


def core_size(
    root: Path, modules_max: int = CORE_MODULES_MAX, imports_max: int = CORE_IMPORTS_MAX
) -> Iterator[str]:
    """The core has so many modules at most, and so many imports among them."""
    modules = {
        ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): path
        for path in sorted((root / "fabric/core").rglob("*.py"))
    }
    imports = {
        (name, imported)
        for name, path in modules.items()
        for imported in imported_modules(ast.parse(path.read_text(encoding="utf-8")), modules)
    }
    for count, most, what in (
        (len(modules), modules_max, "modules"),
        (len(imports), imports_max, "imports among its modules"),
    ):
        if count > most:
            yield f"fabric/core:1: {count} {what}, {most} allowed: see CORE_MODULES_MAX"


def imported_modules(tree: ast.Module, modules: Iterable[str]) -> Iterator[str]:
    """Which of these modules a file imports, as a whole or a name of theirs."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                if whole in modules or node.module in modules:
                    yield whole if whole in modules else node.module


def purity(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """The core imports msgspec, itself and pure parts of the standard library; it calls no I/O."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            imported = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            if isinstance(node, ast.Call) and (called := impure_call(node.func)):
                yield node.lineno, f"the core calls {called}: take the value as an argument"
            continue
        for module in imported:
            if not is_pure(module):
                yield node.lineno, f"the core imports {module}"


def is_pure(module: str) -> bool:
    top = module.partition(".")[0]
    if top == "fabric":
        return f"{module}.".startswith("fabric.core.")
    return top == "msgspec" or (top in sys.stdlib_module_names and top not in CORE_FORBIDDEN)


def impure_call(function: ast.expr) -> str | None:
    """The name of what is called, when the core must not call it."""
    if isinstance(function, ast.Name) and function.id in CORE_CALLS_FORBIDDEN:
        return f"{function.id}()"
    if isinstance(function, ast.Attribute) and function.attr in CORE_METHODS_FORBIDDEN:
        return f".{function.attr}()"
    return None
