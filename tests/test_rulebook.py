"""The rule file: what it says becomes the core's rules, and what is wrong in it is named."""

import re
import tomllib
from pathlib import Path

import msgspec
import pytest

from fabric import rulebook
from fabric.core.rules import (
    TASK_TYPES,
    BarrierPolicy,
    CheckpointMode,
    Domain,
    FailFast,
    Rules,
    Trigger,
)
from fabric.errors import ConfigError
from fabric.rulebook import FILE_BYTES_MAX, SETTINGS, Fault, check
from fabric.rulebook.place import BARE_CHARS_MAX, LEVELS_MAX, places
from fabric.rulebook.text import PLACES
from fabric.settings import Settings

EXAMPLE = Path(__file__).resolve().parent.parent / "fabric.example.toml"

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
)


def faults(text: str) -> list[Fault]:
    """What is wrong in a text that is wrong."""
    rules, found = check(text)
    assert rules is None
    assert found
    return found


def uncommented(text: str) -> str:
    return re.sub(r"(?m)^#~ ?", "", text)


def test_every_field_round_trips() -> None:
    fields = Rules.__struct_fields__
    assert [name for name in fields if getattr(ODD, name) == getattr(Rules(), name)] == []
    assert check(rulebook.written(ODD)) == (ODD, [])
    assert check(rulebook.written(Rules())) == (Rules(), [])


def test_every_field_has_its_place() -> None:
    assert sorted(PLACES) == sorted(Rules.__struct_fields__)
    assert len({*PLACES.values()}) == len(PLACES)


@pytest.mark.parametrize("text", ["", "# nothing\n", 'namespace = "x"\npartitions = 3\n'])
def test_no_tables_mean_the_defaults(text: str) -> None:
    assert check(text) == (Rules(), [])


def test_the_settings_are_those_there_are() -> None:
    assert set(Settings.model_fields) == SETTINGS


def test_the_example_is_the_defaults() -> None:
    assert check(EXAMPLE.read_text()) == (Rules(), [])


def test_the_example_names_every_table_and_field() -> None:
    said = tomllib.loads(uncommented(EXAMPLE.read_text()))
    for path in PLACES.values():
        table = said
        for part in path:
            assert part in table, path
            table = table[part]
    for name, kind in (("domains", Domain), ("triggers", Trigger)):
        assert set(said[name][0]) == set(kind.__struct_fields__)


def test_the_example_is_right_with_its_examples_too() -> None:
    rules, found = check(uncommented(EXAMPLE.read_text()))
    assert found == []
    assert rules is not None
    assert len(rules.domains) == 1
    assert [trigger.name for trigger in rules.triggers] == ["migrations", "api-contract", "release"]
    assert rules.routes == {"COMPLETED": ("AUDITOR",), "FAILED": ("AUDITOR", "ON_CALL")}


def test_rules_serve_as_a_log_of_themselves() -> None:
    """What is printed as JSON is what the file says."""
    assert tomllib.loads(rulebook.written(ODD)) == msgspec.json.decode(
        msgspec.json.encode(rulebook.document(ODD))
    )


FAULTS = [
    ("\n[limit]\nx = 1", 2, "limit", "a table that is not known", "limits (did you mean"),
    ("[zzz]", 1, "zzz", "a table that is not known", "one of task_types, checkpoints"),
    ('redis_ulr = "x"', 1, "redis_ulr", "a setting that is not known", "redis_url (did"),
    ("hops_max = 3", 1, "hops_max", "outside its table", "below [storms]"),
    ("limits = 5", 1, "limits", "5", "[limits] in a line of its own"),
    ("[[limits]]", 1, "limits", "a list", "[limits] in single brackets"),
    ("[domains]\npattern = 'x'", 1, "domains", "a table", "[[domains]], in two brackets"),
    ("[limits]\n\nagent_max = 3", 3, "limits.agent_max", "not known", "agents_max (did"),
    ("[limits]\ntasks_max = '5'", 2, "limits.tasks_max", '"5"', "a whole number from 1"),
    ("[limits]\ntasks_max = 5.0", 2, "limits.tasks_max", "5.0", "a whole number from 1"),
    ("[limits]\ntasks_max = true", 2, "limits.tasks_max", "true", "a whole number from 1"),
    ("[limits]\nundeclared_grace_ms = 0", 2, "limits.undeclared_grace_ms", "0", "milliseconds"),
    ("[locks]\nageing_ms = -1", 2, "locks.ageing_ms", "-1", "milliseconds, a whole number from 1"),
    ("[locks]\npreemption = 'yes'", 2, "locks.preemption", '"yes"', "true or false"),
    ("locks = {hold_ms_max = -1}", 1, "locks.hold_ms_max", "-1", "from 0 (as long as"),
    ("barriers.policy = 'waitt'", 1, "barriers.policy", '"waitt"', '"wait", "release" or "fail"'),
    ("[checkpoints]\nmode = 3", 2, "checkpoints.mode", "3", '"observe" or "enforce"'),
    ("[fail_fast.groups]\ng = 'no'", 2, "fail_fast.groups.g", '"no"', '"off", "cancel" or'),
    ("[priorities]\nA = 'high'", 2, "priorities.A", '"high"', "a whole number from -1000000"),
    ("[priorities]\n'*' = 1", 2, 'priorities."*"', '"*"', "an agent's name"),
    ("[task_types]\n'A b' = []", 2, 'task_types."A b"', "an empty list", "at least one"),
    ("[task_types]\nA = ['x', 'x']", 2, "task_types.A", '"x" twice', "none twice"),
    ("[task_types]\nA = [\n 'x',\n 5]", 4, "task_types.A", "5", "its checkpoints in order"),
    ("[task_types]\nA = [' x']", 2, "task_types.A", '" x"', "its checkpoints in order"),
    ("[[domains]]\npattern='a'\n[[domains]]", 3, "domains.pattern", "nothing", "a glob of paths"),
    ("[[domains]]\npattern='a'\n[[domains]]\npattern='a'", 4, "domains.pattern", "once", "a glob"),
    ("[[triggers]]\nname='a'\ntags='x'", 3, "triggers.tags", '"x"', "a list of globs"),
    ("[liveness]\nsilence_factor = 1", 2, "liveness.silence_factor", "1", "from 2 to"),
    (
        "[liveness]\nsilence_ms_min = 10\nsilence_ms_max = 9",
        *(3, "liveness.silence_ms_max", "9, below silence_ms_min (10)", "not below"),
    ),
    (
        "[liveness]\nsilence_ms_min = 700000",
        *(1, "liveness.silence_ms_max", "600000, below silence_ms_min (700000)", "not below"),
    ),
    ("[storms]\nhops_max = 0", 2, "storms.hops_max", "0", "a whole number from 1"),
    ("[routes]\nSTARTD = ['A']", 2, "routes.STARTD", '"STARTD"', "STARTED (did you mean that?)"),
    ("[routes]\nSTARTED = ['*']", 2, "routes.STARTED", '"*"', "names of agents"),
    ("[routes]\nSTARTED = []", 2, "routes.STARTED", "an empty list", "at least one"),
    (
        "[escalations]\nhook = \"notify -t 'a b'\"",
        *(2, "escalations.hook", "notify -t", 'here: ["notify", "-t", "a b"]'),
    ),
    ("[escalations]\nhook = [' ']", 2, "escalations.hook", "no program", "a program and its"),
    ('[escalations]\nhook = ["a", "\\u0000"]', 2, "escalations.hook", "u0000", "a program and"),
    ("\n\nx = [1, 2", 3, "", "no TOML", "`key = value`"),
    ("a = 1\n[limits\n", 2, "", "no TOML: Expected ']'", "`key = value`"),
]


@pytest.mark.parametrize(
    ("text", "line", "field", "found", "fix"), FAULTS, ids=[repr(row[0]) for row in FAULTS]
)
def test_a_fault_names_line_field_and_fix(
    text: str, line: int, field: str, found: str, fix: str
) -> None:
    (fault,) = faults(text)
    assert (fault.line, fault.field) == (line, field)
    assert found in fault.found
    assert fix in fault.fix


def test_all_faults_are_told_at_once_by_line() -> None:
    text = "[storms]\nhops_max = 0\n[liveness]\nsilence_ms_max = 1\nsilence_factor = 0\n[limit]\n"
    assert [(fault.line, fault.field) for fault in faults(text)] == [
        (2, "storms.hops_max"),
        (4, "liveness.silence_ms_max"),
        (5, "liveness.silence_factor"),
        (6, "limit"),
    ]


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


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[limits]\nx = " + "[" * 100_000, f"more than {LEVELS_MAX} levels"),
        ("[limits]\nx = " + "{a=" * 100_000, f"more than {LEVELS_MAX} levels"),
        ("[limits]\nx" + ".x" * 100_000 + " = 1", f"more than {LEVELS_MAX} levels"),
        ("[limits]\nx = " + "1" * (BARE_CHARS_MAX + 1), "65 characters without quotes"),
        ("[limits]\nx = \0", "no TOML"),
    ],
    ids=["brackets", "braces", "dots", "digits", "NUL"],
)
def test_what_would_take_too_long_is_a_fault(text: str, words: str) -> None:
    (fault,) = faults(text)
    assert fault.line == 2
    assert words in fault.found


@pytest.mark.parametrize(
    ("data", "line", "words"),
    [
        (b"#" * 10_000_000, 1, f"more than {FILE_BYTES_MAX} bytes"),
        (("#" + "ü" * 10_000_000).encode(), 1, f"more than {FILE_BYTES_MAX} bytes"),
        (b"# a\n\n# \xff\n", 3, "the byte 0xff, which is no UTF-8"),
        (b"\x00" * 1_000, 1, "no TOML"),
        (b"\x7fELF\x02\x01\x01\x00", 1, "no TOML"),
    ],
    ids=["long", "long-ü", "binary", "NUL", "program"],
)
def test_a_hostile_file_is_one_fault(tmp_path: Path, data: bytes, line: int, words: str) -> None:
    path = tmp_path / "fabric.toml"
    path.write_bytes(data)
    rules, (fault,) = rulebook.check_file(path)
    assert rules is None
    assert fault.line == line
    assert words in fault.found
    with pytest.raises(ConfigError, match=re.escape(f"{path}:{line}: found")):
        rulebook.load(path)


def test_a_text_is_bounded_too() -> None:
    (fault,) = faults("#" * (FILE_BYTES_MAX + 1))
    assert "more than" in fault.found


def test_a_wrong_value_is_repeated_in_part() -> None:
    (fault,) = faults(f"[limits]\ntasks_max = '{'x' * 10_000}'")
    assert len(fault.found) < 100


def test_many_faults_are_told_in_part() -> None:
    text = "[limits]\n" + "".join(f"x{number} = 1\n" for number in range(1_000))
    assert len(faults(text)) == rulebook.FAULTS_MAX
