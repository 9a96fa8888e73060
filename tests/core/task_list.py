"""Small random lists of tasks, and what an independent look at them says.

A task's resources are a few files, one folder's glob and one exclusive domain, so that what two
tasks share can be written down as sets of files.
"""

from itertools import permutations

from hypothesis import strategies as st

from fabric.core.rule_table import Domain, Trigger
from fabric.core.rules import Rules
from fabric.core.task import TaskSpec, TaskStatus

#: Resource → the files that it stands for. A file of the domain is the whole domain when written.
FILES = {
    "a.py": {"a.py"},
    "b.py": {"b.py"},
    "src/c.py": {"src/c.py"},
    "src/d.py": {"src/d.py"},
    "src/*": {"src/c.py", "src/d.py"},
    "db/x.sql": {"db/x.sql"},
    "db/y.sql": {"db/y.sql"},
}
DOMAIN = {"db/x.sql", "db/y.sql"}

RULES = Rules(
    domains=(Domain("db/**", "DBA", exclusive=True), Domain("src/**", "LEAD")),
    triggers=(Trigger("release", tags=("rel-*",)),),
)


@st.composite
def task_lists(draw: st.DrawFn, size: int = 6) -> list[TaskSpec]:
    """Tasks with short lengths; each may wait for earlier ones. One may be an integration."""
    tasks: list[TaskSpec] = []
    resources = st.lists(st.sampled_from(sorted(FILES)), max_size=2, unique=True)
    for number in range(draw(st.integers(1, size))):
        names = [task.id for task in tasks]
        is_release = not draw(st.integers(0, 9))
        tasks.append(
            TaskSpec(
                f"{'rel' if is_release else 't'}-{number}",
                status=draw(st.sampled_from([TaskStatus.PENDING] * 9 + [TaskStatus.COMPLETED])),
                can_merge_after=draw(st.lists(st.sampled_from(names), max_size=2, unique=True))
                if names
                else [],
                priority=draw(st.integers(0, 1)),
                writes=draw(resources),
                reads=draw(resources),
                estimate_ms=draw(st.integers(1, 4)),
            )
        )
    return draw(st.permutations(tasks))


def is_shared(one: TaskSpec, other: TaskSpec) -> bool:
    """Whether one of two tasks writes what the other writes or reads."""
    return bool(
        written(one) & (written(other) | read(other)) or written(other) & (written(one) | read(one))
    )


def written(task: TaskSpec) -> set[str]:
    files = {file for name in task.writes for file in FILES[name]}
    return files | DOMAIN if files & DOMAIN else files


def read(task: TaskSpec) -> set[str]:
    return {file for name in task.reads for file in FILES[name]}


def earlier(tasks: list[TaskSpec]) -> dict[str, set[str]]:
    """Task → all that must be complete before it, of those that are left."""
    left = {task.id for task in tasks if task.status is not TaskStatus.COMPLETED}
    found = {task.id: set(task.can_merge_after) & left for task in tasks if task.id in left}
    for _ in found:
        for before in found.values():
            before.update(*(found[one] for one in set(before)))
    return found


def is_release(name: str) -> bool:
    return name.startswith("rel-")


def excludes(one: TaskSpec, other: TaskSpec) -> bool:
    """Whether two tasks never run at the same time, orders apart."""
    return is_release(one.id) or is_release(other.id) or is_shared(one, other)


def shortest(tasks: list[TaskSpec], agents: int, together_max: dict[str, int]) -> int:
    """The length of the best schedule: every order of the tasks, each begun as early as it can."""
    left = [task for task in tasks if task.status is not TaskStatus.COMPLETED]
    before = earlier(tasks)
    best = sum(task.estimate_ms for task in left)
    for order in permutations(left):
        placed: dict[str, tuple[int, int]] = {}
        for task in order:
            if not before[task.id] <= placed.keys():
                break
            start = max((placed[one][1] for one in before[task.id]), default=0)
            while not _fits(task, start, placed, left, agents, together_max):
                start += 1
            placed[task.id] = start, start + task.estimate_ms
        else:
            best = min(best, max((end for _, end in placed.values()), default=0))
    return best


def _fits(
    task: TaskSpec,
    start: int,
    placed: dict[str, tuple[int, int]],
    tasks: list[TaskSpec],
    agents: int,
    together_max: dict[str, int],
) -> bool:
    by_id = {one.id: one for one in tasks}
    for now in range(start, start + task.estimate_ms):
        running = [by_id[name] for name, (begin, end) in placed.items() if begin <= now < end]
        if len(running) >= agents or any(excludes(task, other) for other in running):
            return False
        if is_too_many([task, *running], together_max):
            return False
    return True


def is_too_many(running: list[TaskSpec], together_max: dict[str, int]) -> bool:
    """Whether so many tasks are more than the coordinators may have at a time."""
    in_src = sum(any(file.startswith("src/") for file in written(task)) for task in running)
    in_db = sum(bool(written(task) & DOMAIN) for task in running)
    return in_src > together_max.get("LEAD", 99) or in_db > together_max.get("DBA", 99)
