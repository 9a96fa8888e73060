"""COMPLEXITY: functions with many branches, deep nesting or long parameter lists.

Branches are counted as T. J. McCabe does ("A Complexity Measure", 1976): one, plus one for each
decision. A decision is an `if`, `elif`, conditional expression, loop, `except`, non-trivial `case`,
comprehension loop or condition, and each further operand of `and` and `or`. A nested function is
counted on its own.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from fabric.demo.excerpt import excerpt
from fabric.demo.finding import Finding, Rule, Severity
from fabric.demo.reviews.review import found
from fabric.demo.source import Problem, Source
from fabric.demo.syntax import Function, blocks, decorator_names, definitions, walk_own

#: Paths through a function. McCabe proposed 10 without counting `and` and `or`; 15 leaves room for
#: those.
COMPLEXITY_MAX = 15
#: From here on a function is hardly testable, and the finding counts as high.
COMPLEXITY_SEVERE = 40
#: Compound statements inside each other. A reader keeps about four conditions in mind.
NESTING_MAX = 5
#: Parameters without self or cls, `*args` and `**kwargs`. More are mixed up by their callers.
PARAMETERS_MAX = 8

COMPLEX_FUNCTION = Rule(
    "complex-function", Severity.MEDIUM, "Take decisions out into functions with a name."
)
DEEP_NESTING = Rule(
    "deep-nesting", Severity.MEDIUM, "Return early, or move the inner block into a function."
)
TOO_MANY_PARAMETERS = Rule(
    "too-many-parameters",
    Severity.LOW,
    "Group the parameters that belong together into one object.",
)

_NESTING = (
    ast.If,
    ast.For,
    ast.AsyncFor,
    ast.While,
    ast.With,
    ast.AsyncWith,
    ast.Try,
    ast.TryStar,
    ast.Match,
)
_DECISIONS = (ast.If, ast.IfExp, ast.For, ast.AsyncFor, ast.While, ast.ExceptHandler)


class Complexity:
    """Measures every function of a file."""

    rules = (COMPLEX_FUNCTION, DEEP_NESTING, TOO_MANY_PARAMETERS)

    def check(self, source: Source) -> Iterator[Finding]:
        """Yield what is wrong in one file."""
        tree = source.parse()
        if isinstance(tree, Problem):
            return
        for defined in definitions(tree):
            node = defined.node
            if isinstance(node, ast.ClassDef):
                continue
            name = excerpt(defined.qualified)
            paths = complexity(node)
            if paths > COMPLEXITY_MAX:
                severity = Severity.HIGH if paths >= COMPLEXITY_SEVERE else Severity.MEDIUM
                message = f"`{name}` has {paths} paths, more than {COMPLEXITY_MAX}"
                yield found(
                    source, COMPLEX_FUNCTION, node.lineno, message, severity=severity, measure=paths
                )
            depth, line = nesting(node)
            if depth > NESTING_MAX:
                message = f"`{name}` nests {depth} blocks, more than {NESTING_MAX}"
                yield found(source, DEEP_NESTING, line, message, measure=depth)
            count = parameters(node, is_method=isinstance(defined.owner, ast.ClassDef))
            if count > PARAMETERS_MAX and "overload" not in ".".join(decorator_names(node)):
                message = f"`{name}` takes {count} parameters, more than {PARAMETERS_MAX}"
                yield found(source, TOO_MANY_PARAMETERS, node.lineno, message, measure=count)


def complexity(function: Function) -> int:
    """Return the cyclomatic complexity of one function, nested functions excluded."""
    return 1 + sum(_decisions(node) for node in walk_own(function.body))


def nesting(function: Function) -> tuple[int, int]:
    """Return how deep compound statements nest in a function and the line of the first that is
    deepest.

    An `elif` is on the level of its `if`.
    """
    deepest, line = 0, function.lineno
    pending: list[tuple[ast.stmt, int]] = [(item, 0) for item in reversed(function.body)]
    while pending:
        node, depth = pending.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        inner = depth + isinstance(node, _NESTING)
        if inner > deepest:
            deepest, line = inner, node.lineno
        below: list[tuple[ast.stmt, int]] = []
        for block in blocks(node):
            is_elif = isinstance(node, ast.If) and block is node.orelse and _is_elif(node, block)
            below.extend((item, depth if is_elif else inner) for item in block)
        pending.extend(reversed(below))
    return deepest, line


def parameters(function: Function, *, is_method: bool) -> int:
    """Return the number of named parameters, without the one that a method is bound to."""
    arguments = function.args
    count = len(arguments.posonlyargs) + len(arguments.args) + len(arguments.kwonlyargs)
    is_bound = is_method and "staticmethod" not in decorator_names(function)
    return max(count - 1, 0) if is_bound else count


def _decisions(node: ast.AST) -> int:
    if isinstance(node, _DECISIONS):
        return 1
    if isinstance(node, ast.BoolOp):
        return len(node.values) - 1
    if isinstance(node, ast.comprehension):
        return 1 + len(node.ifs)
    if isinstance(node, ast.match_case):
        pattern = node.pattern
        is_default = (
            isinstance(pattern, ast.MatchAs) and pattern.pattern is None and node.guard is None
        )
        return 0 if is_default else 1
    return 0


def _is_elif(node: ast.If, block: list[ast.stmt]) -> bool:
    return (
        len(block) == 1 and isinstance(block[0], ast.If) and block[0].col_offset == node.col_offset
    )
