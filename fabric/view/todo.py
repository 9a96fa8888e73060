"""Tasks as entries of a todo list (seeds: RESULT_STREAMING, "Integration with TodoWrite")."""

from __future__ import annotations

from typing import Any

from fabric.core.record import TaskRecord

#: Verbs that tasks begin with → the form that says that it is being done.
_DOING = {
    "add": "adding", "analyse": "analysing", "analyze": "analyzing", "audit": "auditing",
    "build": "building", "change": "changing", "check": "checking", "clean": "cleaning",
    "compare": "comparing", "convert": "converting", "create": "creating", "debug": "debugging",
    "define": "defining", "delete": "deleting", "deploy": "deploying", "design": "designing",
    "document": "documenting", "draft": "drafting", "explore": "exploring",
    "extend": "extending", "extract": "extracting", "find": "finding", "fix": "fixing",
    "generate": "generating", "implement": "implementing", "improve": "improving",
    "index": "indexing", "inspect": "inspecting", "integrate": "integrating",
    "investigate": "investigating", "measure": "measuring", "merge": "merging",
    "migrate": "migrating", "move": "moving", "optimise": "optimising",
    "optimize": "optimizing", "parse": "parsing", "plan": "planning", "port": "porting",
    "prepare": "preparing", "profile": "profiling", "read": "reading", "refactor": "refactoring",
    "release": "releasing", "remove": "removing", "rename": "renaming", "repair": "repairing",
    "replace": "replacing", "report": "reporting", "research": "researching",
    "review": "reviewing", "rewrite": "rewriting", "run": "running", "scan": "scanning",
    "search": "searching", "simplify": "simplifying", "split": "splitting",
    "summarise": "summarising", "summarize": "summarizing", "test": "testing",
    "translate": "translating", "update": "updating", "upgrade": "upgrading",
    "validate": "validating", "verify": "verifying", "write": "writing",
}  # fmt: skip


def todo(task: TaskRecord) -> dict[str, Any]:
    """Return a task in the fields that the seeds give a todo."""
    return {
        "content": task.content,
        "status": task.status,
        "activeForm": active_form(task.content),
        "progress_percent": task.progress_percent,
        "last_signal": task.last_signal,
        "partial_findings": task.partial_findings,
    }


def active_form(content: str) -> str:
    """Say that a task is being done: `Review auth module` → `Reviewing auth module`."""
    verb, space, rest = content.partition(" ")
    doing = _DOING.get(verb.lower())
    if doing is None:
        return content if verb.lower() in _DOING.values() else f"Working on: {content}"
    return (doing.capitalize() if verb[:1].isupper() else doing) + space + rest
