"""Lists of tasks: planned, or refused with an error; a plan has every task that is left, once."""

from __future__ import annotations

from fabric.core.rule_table import Domain, Trigger
from fabric.core.rules import Rules
from fabric.errors import TaskFileError
from fabric.ops.plan import plan_file
from fabric.view.plan import document, lines, mermaid
from tests.fuzz.tokens import HOSTILE

ANSWERS: tuple[type[Exception], ...] = (TaskFileError,)

_RULES = Rules(
    domains=(Domain("db/**", "DBA", exclusive=True),), triggers=(Trigger("r", ("r*",), ("w*",)),)
)
_FIELDS = (
    b"id content status activeForm can_merge_after blocks reads writes estimate estimate_ms "
    b"priority terminal progress_percent taskId subject addBlocks addBlockedBy metadata tasks "
    b"todos name input deleted completed high"
)
WORDS = [
    *_FIELDS.split(),
    *(b'"20 min"', b"db/**", b"[[tasks]]\n", b"[tasks.a]\n", b'{"id":"a"}', b"], [", b" = "),
    *HOSTILE,
]


def seeds() -> list[bytes]:
    """Return good files; the first byte selects the language: `t` is TOML."""
    return [
        b'j[{"content":"Run it","activeForm":"x"},{"content":"B","can_merge_after":["it"]}]',
        b'j[{"subject":"A"},{"subject":"B"},{"taskId":"2","addBlockedBy":["1"],"owner":"x"}]',
        b'j{"todos":[{"id":"r1","writes":["db/a"],"estimate":"2 h"},{"id":"b","reads":["db/*"]}]}',
        b't[tasks.a]\nwrites = ["db/**"]\n[tasks.b]\nblocks = ["a"]\nprogress_percent = 50\n',
        b't[[tasks]]\nid = "a"\nwrites = ["w/*"]\npriority = 3\n',
    ]


def run(data: bytes) -> None:
    """Plan a file, and show the plan in each form."""
    made = plan_file(data[1:], "f.toml" if data[:1] == b"t" else "f.json", _RULES, 3)
    placed = [slot.task for slot in made.schedule]
    assert len(placed) == len(set(placed)), "a task that runs twice"
    assert sorted(placed) == sorted(name for wave in made.waves for name in wave)
    assert made.bound_ms <= made.expected_ms <= made.work_ms, "a schedule that cannot be"
    for form in (lines(made), mermaid(made)):
        assert all(line.isprintable() for line in form), "a line that moves a terminal"
    assert document(made)["pairs"] is not None
