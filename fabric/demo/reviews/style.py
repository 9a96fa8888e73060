"""STYLE: notes left behind, code commented out, functions too long to read, public names without a
docstring.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from fabric.demo.comment import Comment, code_blocks, comments
from fabric.demo.excerpt import excerpt
from fabric.demo.finding import Finding, Rule, Severity
from fabric.demo.reviews.review import found
from fabric.demo.source import Problem, Source
from fabric.demo.syntax import Function, definitions, docstring_node

#: Lines of a function without its docstring. Two screens; what is longer nobody reads in one go.
FUNCTION_LINES_MAX = 100

LONG_FUNCTION = Rule(
    "long-function", Severity.MEDIUM, "Split the function where its steps have names."
)
COMMENTED_CODE = Rule(
    "commented-out-code", Severity.LOW, "Delete it: the version history keeps what was there.", 0.8
)
TODO = Rule(
    "todo-comment", Severity.LOW, "Do it, or put it where work is tracked, and remove the comment."
)
MISSING_DOCSTRING = Rule("missing-docstring", Severity.LOW, "Say in one sentence what it is for.")

_NOTE = re.compile(r"#.*?\b(TODO|FIXME|XXX)\b(?!['\"])")


class Style:
    """Reads comments from the tokens and lengths and docstrings from the tree."""

    rules = (LONG_FUNCTION, COMMENTED_CODE, TODO, MISSING_DOCSTRING)

    def check(self, source: Source) -> Iterator[Finding]:
        """Yield what is wrong in one file."""
        tree = source.parse()
        if isinstance(tree, Problem):
            return
        remarks = comments(source.text)
        yield from _notes(source, remarks)
        for line, count in code_blocks(remarks):
            lines = "1 line" if count == 1 else f"{count} lines"
            yield found(
                source, COMMENTED_CODE, line, f"{lines} of code commented out", measure=count
            )
        for defined in definitions(tree):
            if isinstance(defined.node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield from _length(source, defined.node, defined.qualified)
        if not source.is_test:
            yield from _docstrings(source, tree)


def _notes(source: Source, remarks: list[Comment]) -> Iterator[Finding]:
    for comment in remarks:
        match = _NOTE.match(comment.text)
        if match:
            # The other two say that something is wrong now, this one that something is missing.
            severity = Severity.LOW if match[1] == "TODO" else Severity.MEDIUM
            note = excerpt(comment.text.lstrip("#"))
            yield found(
                source,
                TODO,
                comment.line,
                f"{match[1]} left in a comment",
                severity=severity,
                evidence=note,
            )


def _length(source: Source, node: Function, qualified: str) -> Iterator[Finding]:
    lines = (node.end_lineno or node.lineno) - node.lineno + 1
    docstring = docstring_node(node.body)
    if docstring is not None:
        lines -= (docstring.end_lineno or docstring.lineno) - docstring.lineno + 1
    if lines > FUNCTION_LINES_MAX:
        message = f"`{excerpt(qualified)}` is {lines} lines long, more than {FUNCTION_LINES_MAX}"
        yield found(source, LONG_FUNCTION, node.lineno, message, measure=lines)


def _docstrings(source: Source, tree: ast.Module) -> Iterator[Finding]:
    name = source.name.removesuffix(".py")
    is_public = not name.startswith("_") or name == "__init__"
    has_code = any(
        isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        for node in tree.body
    )
    if is_public and has_code and docstring_node(tree.body) is None:
        yield found(source, MISSING_DOCSTRING, 1, "the module has no docstring")
    for node in tree.body:
        if not isinstance(node, ast.ClassDef) or node.name.startswith("_") or _is_bare(node):
            continue
        if docstring_node(node.body) is None:
            message = f"the public class `{excerpt(node.name)}` has no docstring"
            yield found(source, MISSING_DOCSTRING, node.lineno, message)


def _is_bare(node: ast.ClassDef) -> bool:
    """Tell whether a class has no body, as most exceptions: its name says all."""
    return all(
        isinstance(item, ast.Pass)
        or (
            isinstance(item, ast.Expr)
            and isinstance(item.value, ast.Constant)
            and item.value.value is ...
        )
        for item in node.body
    )
