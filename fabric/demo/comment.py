"""Comments of a file, and the judgement whether some of them are code that was switched off."""

from __future__ import annotations

import ast
import io
import re
import tokenize
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

#: Lines of a block of comments that is tried as code: more is a licence or a manual, and parsing it
#: is slow.
BLOCK_LINES_MAX = 200

_PRAGMA = re.compile(
    r"#\s*(?:!|:|type:|noqa|pylint|pragma|fmt:|isort|mypy|ruff|pyright|-\*-|region|%%)", re.I
)
#: Words that lead up to an example, which is documentation.
_INTRODUCTION = re.compile(r"(?::|e\.g\.?|example|like|such as|equivalent|following)\s*$", re.I)


@dataclass(frozen=True, slots=True)
class Comment:
    """One comment: `text` starts with its `#`; `alone` when nothing else is on the line."""

    line: int
    column: int
    text: str
    alone: bool


def comments(text: str) -> list[Comment]:
    """Return the comments of a source text in order; those before the first broken token when there
    is one.
    """
    found: list[Comment] = []
    if "#" not in text:
        return found
    try:
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type == tokenize.COMMENT:
                alone = not token.line[: token.start[1]].strip()
                found.append(Comment(token.start[0], token.start[1], token.string, alone))
    except (tokenize.TokenError, SyntaxError, ValueError, RecursionError, MemoryError):
        pass
    return found


def code_blocks(found: Sequence[Comment]) -> Iterator[tuple[int, int]]:
    """Yield (first line, number of lines) of each block of comments that is code.

    Careful: a whole run of comment lines has to parse, and one line alone counts only when it can
    hardly be prose.
    """
    for block in _blocks(found):
        if len(block) <= BLOCK_LINES_MAX and _is_code([comment.text for comment in block]):
            yield block[0].line, len(block)


def _blocks(found: Sequence[Comment]) -> Iterator[list[Comment]]:
    block: list[Comment] = []
    for comment in found:
        if not comment.alone or _PRAGMA.match(comment.text):
            continue
        if block and (comment.line != block[-1].line + 1 or comment.column != block[-1].column):
            yield block
            block = []
        block.append(comment)
    if block:
        yield block


def _is_code(lines: Sequence[str]) -> bool:
    bodies = [line.lstrip("#") for line in lines]
    filled = [number for number, body in enumerate(bodies) if body.strip()]
    bodies = bodies[filled[0] : filled[-1] + 1] if filled else []
    if not bodies or not any(mark in "".join(bodies) for mark in ("=", "(", ".", "import ")):
        return False
    if _INTRODUCTION.search(bodies[0]) and not bodies[0].lstrip().startswith(_OPENERS):
        return False
    statements = _parsed(bodies)
    strong = sum(_is_strong(node) for node in statements)
    if len(bodies) == 1:
        return strong == 1 and _is_unmistakable(statements[0])
    weak = sum(isinstance(node, ast.Expr) and not _is_call(node) for node in statements)
    return strong >= 1 and weak == 0


#: Compound statements end in a colon like a lead-in does.
_OPENERS = ("if ", "for ", "while ", "with ", "def ", "class ", "try", "else", "async ", "@")


def _parsed(bodies: Sequence[str]) -> list[ast.stmt]:
    filled = [body for body in bodies if body.strip()]
    margin = min(len(body) - len(body.lstrip()) for body in filled)
    text = "\n".join(body[margin:].rstrip() for body in bodies) + "\n"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(text).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []


_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Import, ast.ImportFrom)
_COMPOUND = (ast.If, ast.For, ast.While, ast.With, ast.Try)
_STRONG = (*_DEFINITIONS, *_COMPOUND, ast.Raise, ast.Assert, ast.Delete)


def _is_strong(node: ast.stmt) -> bool:
    if isinstance(node, ast.Assign | ast.AugAssign):
        return True
    if isinstance(node, ast.AnnAssign):
        return node.value is not None
    if isinstance(node, ast.Expr):
        return _is_call(node)
    if isinstance(node, ast.Return):
        return isinstance(node.value, ast.Call)
    return isinstance(node, _STRONG)


def _is_unmistakable(node: ast.stmt) -> bool:
    """Tell whether a single line is code and not prose that happens to parse, as `# import errors`
    does.
    """
    if isinstance(node, ast.ImportFrom):
        return True
    if isinstance(node, ast.Import):
        return any(alias.asname or "." in alias.name for alias in node.names)
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        return isinstance(node.value.func, ast.Name) and node.value.func.id in (
            "print",
            "breakpoint",
        )
    return False


def _is_call(node: ast.Expr) -> bool:
    value = node.value.value if isinstance(node.value, ast.Await) else node.value
    return isinstance(value, ast.Call)
