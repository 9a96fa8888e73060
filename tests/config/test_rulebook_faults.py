"""Faults in a rule file: line, field, and what to write instead."""

import re
from pathlib import Path

import pytest

from fabric.config import rulebook
from fabric.config.rulebook import check
from fabric.config.toml_file import BARE_CHARS_MAX, FILE_BYTES_MAX, LEVELS_MAX, Fault
from fabric.errors import ConfigError

MERGE = "[[synthesis.merges]]\npath = '{}'\nreducer = '{}'\n"

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
    ("[synthesis]\nrestarts = 'no'", 2, "synthesis.restarts", '"no"', '"replace" or "keep"'),
    ("[synthesis]\nrefiners = 'a'", 2, "synthesis.refiners", '"a"', "a list of names that"),
    ("[synthesis]\nrefiners = ['a', 'a']", 2, "synthesis.refiners", '"a" twice', "none twice"),
    ("[synthesis]\nrefiners = ['']", 2, "synthesis.refiners", '""', "a list of names that"),
    ("[synthesis]\nrefine_pause_ms = 0", 2, "synthesis.refine_pause_ms", "0", "milliseconds"),
    ("[synthesis]\nrefine_ms_max = '1 s'", 2, "synthesis.refine_ms_max", '"1 s"', "milliseconds"),
    ("[synthesis]\nrefiner = []", 2, "synthesis.refiner", "not known", "refiners (did you mean"),
    ("refine_pause_ms = 3", 1, "refine_pause_ms", "outside its table", "below [synthesis]"),
    ("reducer = 'sum'", 1, "reducer", "outside its table", "below [synthesis.merges]"),
    ("[[synthesis]]", 1, "synthesis", "a list", "[synthesis] in single brackets"),
    ("[synthesis.merges]", 1, "synthesis.merges", "a table", "[[synthesis.merges]], in two"),
    (MERGE.format("a", "sum"), 2, "synthesis.merges.path", '"a"', "which begins with /"),
    (MERGE.format("/a~b", "sum"), 2, "synthesis.merges.path", '"/a~b"', "~0 is ~"),
    (MERGE.format("/a", ""), 3, "synthesis.merges.reducer", '""', '"by_source"'),
    (MERGE.format("/a", "summ"), 3, "synthesis.merges.reducer", '"summ"', '"sum" (did you mean'),
    (MERGE.format("/a", "By-Source"), 3, "synthesis.merges.reducer", "nearly", '"by_source" (did'),
    (
        MERGE.format("/a", "sum") + MERGE.format("/a", "max"),
        *(5, "synthesis.merges.path", "once more", "a JSON Pointer"),
    ),
    (
        "[[synthesis.merges]]\npath = '/a'\nreducr = 'sum'\nreducer = 'sum'",
        *(3, "synthesis.merges.reducr", "not known", "reducer (did you mean that?)"),
    ),
    ("\n\nx = [1, 2", 3, "", "no TOML", "`key = value`"),
    ("a = 1\n[limits\n", 2, "", "no TOML: Expected ']'", "`key = value`"),
]


def faults(text: str) -> list[Fault]:
    """Return the faults of a text that has some."""
    rules, found = check(text)
    assert rules is None
    assert found
    return found


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


@pytest.mark.slow
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
