"""The rule file becomes the core's rules, and rules are written as a rule file."""

import re
import tomllib
from pathlib import Path

import msgspec
import pytest

from fabric.config.rulebook import Found, check
from fabric.config.show import document, explained
from fabric.config.toml_file import places
from fabric.core.policy import (
    BalanceMode,
    BarrierPolicy,
    CheckpointMode,
    ChildPolicy,
    FailFast,
    InferencePolicy,
    NamePolicy,
    RestartPolicy,
    StragglerPolicy,
    TaskMode,
    WorktreePolicy,
)
from fabric.core.rule_table import TASK_TYPES, Domain, Merge, Same, Trigger
from fabric.core.rules import Rules

EXAMPLE = Path(__file__).resolve().parents[2] / "fabric.example.toml"

#: No field has its default.
ODD = Rules(
    task_types=TASK_TYPES | {"Code Review": ("one", "two"), 'a "b" \\ ü': ("x",)},
    checkpoints=CheckpointMode.ENFORCE,
    agents_max=1,
    dependencies_max=2,
    tasks_max=3,
    undeclared_grace_ms=4,
    priorities={"A": 5, "B.1 x": -5},
    ageing_ms=6,
    serialize_reads=True,
    preemption=True,
    hold_ms_max=7,
    domains=(Domain("alembic/**", "ARCHITECT", exclusive=True), Domain("docs/*")),
    barrier_deadline_ms=0,
    barrier_policy=BarrierPolicy.FAIL,
    triggers=(Trigger("m", ("schema-*",), ("a/**", "b"), 8, "LEAD"), Trigger("n")),
    silence_factor=9,
    silence_ms_min=10,
    silence_ms_max=11,
    silent_deaths_max=12,
    fail_fast=FailFast.CANCEL,
    fail_fast_groups={"g h": FailFast.ESCALATE, "i": FailFast.OFF},
    hops_max=13,
    signals_per_second_max=14,
    hook=("notify", "--title", "a b", ""),
    routes={"COMPLETED": ("AUDITOR", "B"), "FAILED": ("C",)},
    restart_policy=RestartPolicy.KEEP,
    merges=(Merge("/metrics/*/a~1b", "mean"), Merge("/", "theirs")),
    same=(Same(("rule", "data.cve"), 0, {"a b": ("c", "é")}), Same()),
    refiners=("summary", "a b"),
    markdown=True,
    refine_pause_ms=15,
    refine_ms_max=16,
    expect_ms_max=17,
    mass_silence_percent=18,
    wedged_ms_max=19,
    parallel_max=20,
    coordinator_tasks_max={"ARCHITECT": 21, "B x": 1},
    task_mode=TaskMode.OBSERVE,
    attempts_max=22,
    offer_ms=23,
    progress_factor=24,
    progress_ms_min=25,
    progress_ms_max=26,
    balance=BalanceMode.STREAM,
    straggler=StragglerPolicy.SECOND,
    straggler_factor=27,
    straggler_ms_min=28,
    worktrees=WorktreePolicy.SEPARATE,
    name_taken=NamePolicy.SUFFIX,
    children=ChildPolicy.CANCEL,
    ended_ms=29,
    sessions_max=30,
    recent_ms=31,
    read_events=32,
    inbox_max=33_000,
    inbox_bytes=34_000_000,
    revisions_max=350,
    dead_ms=36,
    dead_bytes=37_000_000,
    look_ms=38_000,
    contradict_on=("severity",),
    settle_ms=39,
    inference=InferencePolicy.REFUSE,
    cancelled_deliver=True,
    unread_ms_max=40,
    grace_ms=41,
)


def written(rules: Rules) -> str:
    return "\n".join(explained(Found(rules)))


def uncommented(text: str) -> str:
    return re.sub(r"(?m)^#~ ?", "", text)


def test_every_field_round_trips() -> None:
    fields = Rules.__struct_fields__
    assert [name for name in fields if getattr(ODD, name) == getattr(Rules(), name)] == []
    assert check(written(ODD)) == (ODD, [])
    assert check(written(Rules())) == (Rules(), [])


def test_a_name_of_any_length_round_trips() -> None:
    """A fault shows only the start of a long name; `written` writes all of it."""
    rules = Rules(priorities={"a name in quotes " + "x" * 400: 3})
    assert check(written(rules)) == (rules, [])


@pytest.mark.parametrize("text", ["", "# nothing\n", 'namespace = "x"\npartitions = 3\n'])
def test_no_tables_mean_the_defaults(text: str) -> None:
    assert check(text) == (Rules(), [])


def test_the_example_is_the_defaults() -> None:
    assert check(EXAMPLE.read_text()) == (Rules(), [])


def test_the_example_is_right_with_its_examples_too() -> None:
    rules, found = check(uncommented(EXAMPLE.read_text()))
    assert found == []
    assert rules is not None
    assert len(rules.domains) == 1
    assert [trigger.name for trigger in rules.triggers] == ["migrations", "api-contract", "release"]
    assert rules.routes == {"COMPLETED": ("AUDITOR",), "FAILED": ("AUDITOR", "ON_CALL")}
    assert rules.merges == (Merge("/metrics/*/latency", "mean"),)


def test_rules_serve_as_a_log_of_themselves() -> None:
    """The JSON output has the same content as the written file."""
    assert tomllib.loads(written(ODD)) == msgspec.json.decode(msgspec.json.encode(document(ODD)))


@pytest.mark.parametrize("name", ["p95", "map", "mid", "theirs.sum", "summa", "médian"])
def test_a_reducer_of_another_name_may_be_a_packages(name: str) -> None:
    rules, found = check(f"[[synthesis.merges]]\npath = '/a'\nreducer = '{name}'")
    assert found == []
    assert rules is not None
    assert rules.merges == (Merge("/a", name),)


def test_lines_are_found_wherever_a_key_may_stand() -> None:
    text = (
        '# [a]\na."b c".d = """\n[x]\n"""\n[t]\nl = [ # ]\n  "]",\n\n  {k = 1}]\n'
        "[[u]]\n[u.v]\nw = 1.5e3\n[[u]]\r\nz = 1979-05-27 07:32:00\n'q' = '''\n'''\ne = ''\n"
    )
    assert tomllib.loads(text)["u"][1]["e"] == ""
    found = places(text)
    assert {path: line for path, line in found.items() if path[-1] not in (0, 1)} == {
        ("a",): 2,
        ("a", "b c"): 2,
        ("a", "b c", "d"): 2,
        ("t",): 5,
        ("t", "l"): 6,
        ("t", "l", 1, "k"): 9,
        ("u",): 10,
        ("u", 0, "v"): 11,
        ("u", 0, "v", "w"): 12,
        ("u", 1, "z"): 14,
        ("u", 1, "q"): 15,
        ("u", 1, "e"): 17,
    }
    assert (found["t", "l", 0], found["u", 0], found["u", 1]) == (7, 10, 13)
