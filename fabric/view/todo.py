"""Tasks as entries of a coding agent's todo list."""

from __future__ import annotations

from typing import Any

from fabric.core.record import TaskRecord

#: Verbs that tasks begin with → the form for a task in progress.
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
    """Return a task with the fields of a todo entry."""
    return {
        "content": task.content,
        "status": task.status,
        "activeForm": active_form(task.content),
        "progress_percent": task.progress_percent,
        "last_signal": task.last_signal,
        "partial_findings": task.partial_findings,
    }


def active_form(content: str) -> str:
    """Return the text of a task in progress: `Review auth module` → `Reviewing auth module`."""
    verb, space, rest = content.partition(" ")
    doing = _DOING.get(verb.lower())
    if doing is None:
        return content if verb.lower() in _DOING.values() else f"Working on: {content}"
    return (doing.capitalize() if verb[:1].isupper() else doing) + space + rest
