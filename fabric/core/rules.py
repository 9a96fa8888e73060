"""The rules a session is judged by: data that the rule file fills in, with the seeds' defaults."""

from __future__ import annotations

from msgspec import Struct, field

from fabric.core.limits import SESSION_AGENTS_MAX, SESSION_DEPENDENCIES_MAX, SESSION_TASKS_MAX

#: Checkpoints per task type, in order (seeds: RESULT_STREAMING, "Checkpoint Definition").
TASK_TYPES: dict[str, tuple[str, ...]] = {
    "Code Review": ("files_read", "issues_found", "recommendations_drafted"),
    "Test Writing": ("coverage_analyzed", "tests_generated", "tests_validated"),
    "Exploration": ("files_searched", "patterns_found", "synthesis_complete"),
}


class Rules(Struct, frozen=True):
    """What `step` is told besides the session and the signal."""

    task_types: dict[str, tuple[str, ...]] = field(default_factory=TASK_TYPES.copy)
    agents_max: int = SESSION_AGENTS_MAX
    dependencies_max: int = SESSION_DEPENDENCIES_MAX
    tasks_max: int = SESSION_TASKS_MAX
    #: How long agents may wait for something that nobody has declared to produce, ms.
    undeclared_grace_ms: int = 30_000

    def checkpoint_after(self, task_type: str, checkpoint: str) -> str:
        """Name the checkpoint that follows; the first for "", "" where nothing follows."""
        order = self.task_types.get(task_type, ())
        if not checkpoint:
            return order[0] if order else ""
        if checkpoint not in order:
            return ""
        position = order.index(checkpoint) + 1
        return order[position] if position < len(order) else ""
