"""`fabric rules`, and that what runs an orchestrator does not start on a faulty rule file."""

import pytest

from tests.support.shell import Shell, end

FAULTY = "[storms]\nhops_max = 0\n[limit]\n"

#: Nobody is there: who gets as far as connecting to it does not end with exit code 2.
NOBODY = "redis://127.0.0.1:1/0"


def test_all_faults_are_printed(lone: Shell) -> None:
    (lone.home / "some.toml").write_text(FAULTY)
    done = lone.run("rules", "check", "some.toml")
    assert (done.code, done.err) == (1, "")
    assert done.lines == [
        "some.toml:2: storms.hops_max: found 0; write a whole number from 1 to 1000",
        "some.toml:3: limit: found a table that is not known; write limits (did you mean that?)",
    ]


def test_faults_are_printed_as_json(lone: Shell) -> None:
    (lone.home / "fabric.toml").write_text(FAULTY)
    done = lone.run("rules", "check", "--json")
    assert (done.code, done.err) == (1, "")
    assert [fault["field"] for fault in done.json_lines] == ["storms.hops_max", "limit"]
    assert set(done.json_lines[0]) == {"file", "line", "field", "found", "fix"}


def test_a_correct_file_is_reported(lone: Shell) -> None:
    (lone.home / "fabric.toml").write_text("[storms]\nhops_max = 5\n")
    for words in ((), ("fabric.toml",)):
        done = lone.run("rules", "check", *words)
        assert (done.code, done.out) == (0, "")
        assert "ok: " in done.err
        assert "fabric.toml" in done.err


FAST = "[liveness]\nsilence_factor = 5\nsilence_ms_min = 2000\nsilence_ms_max = 4000\n"


def test_times_that_do_not_fit_together_are_named(lone: Shell) -> None:
    (lone.home / "fabric.toml").write_text(FAST)
    done = lone.run("rules", "check")
    assert (done.code, done.err) == (1, "")
    silence, patience = done.lines
    assert ":3: liveness.silence_ms_min: found 2000, not above lease_ms and heartbeat" in silence
    assert ":3: emit_limit_ms: found 30000, not below liveness.silence_ms_min" in patience
    assert lone.run("rules", "show").code == 0, "it is a rule file all the same"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("heartbeat_ms = 55_000\n", ["liveness.silence_ms_min"]),
        ("lease_ms = 50_000\n", ["liveness.silence_ms_min"]),
        ("lease_ms = 49_999\n", []),
        ("emit_limit_ms = 60_000\n", ["emit_limit_ms"]),
        ("heartbeat_ms = 500\nlease_ms = 1_000\nemit_limit_ms = 1_500\n" + FAST, []),
    ],
)
def test_settings_of_the_file_count(lone: Shell, text: str, named: list[str]) -> None:
    (lone.home / "some.toml").write_text(text)
    done = lone.run("rules", "check", "some.toml", "--json")
    assert [fault["field"] for fault in done.json_lines] == named
    assert done.code == bool(named)


def test_no_file_at_all_is_correct_too(lone: Shell) -> None:
    done = lone.run("rules", "check")
    assert (done.code, done.out) == (0, "")
    assert "the defaults hold" in done.err


@pytest.mark.parametrize("verb", ["check", "show"])
def test_a_missing_file(lone: Shell, verb: str) -> None:
    done = lone.run("rules", verb, "nowhere.toml")
    assert (done.code, done.out) == (3, "")
    assert "no file nowhere.toml" in done.err


def test_a_folder_in_place_of_a_file(lone: Shell) -> None:
    done = lone.run("rules", "check", ".")
    assert (done.code, done.out) == (2, "")
    assert "cannot be read" in done.err


def test_the_rules_in_force_are_a_rule_file(lone: Shell) -> None:
    (lone.home / "fabric.toml").write_text("[storms]\nhops_max = 5\n")
    shown = lone.run("rules", "show")
    assert shown.code == 0
    home = lone.home / "fabric.toml"
    assert f"hops_max = 5  # hops; {home}:2; default 32" in shown.lines
    assert "fabric.toml" in shown.err
    (lone.home / "copy.toml").write_text(shown.out)
    document = lone.good("rules", "show", "--json").json
    copied = lone.good("rules", "show", "copy.toml", "--json").json
    assert copied["rules"] == document["rules"]
    assert document["rules"]["storms"] == {"hops_max": 5, "signals_per_second_max": 1_000}
    assert document["file"].endswith("fabric.toml")


def test_a_record_tells_all_of_a_rule(lone: Shell) -> None:
    (lone.home / "fabric.toml").write_text("[storms]\nhops_max = 5\n")
    records = lone.good("rules", "show", "--json").json["records"]
    (record,) = [record for record in records if record["name"] == "storms.hops_max"]
    meaning = record.pop("meaning")
    assert meaning.startswith("Longest chain of messages")
    assert record == {
        "name": "storms.hops_max",
        "value": 5,
        "default": 32,
        "unit": "hops",
        "bounds": "1 to 1000",
        "from": f"{lone.home / 'fabric.toml'}:2",
    }


def test_settings_are_shown_with_their_sources_and_without_the_url(lone: Shell) -> None:
    (lone.home / "fabric.toml").write_text("lease_ms = 900\n")
    more = {"FABRIC_REDIS_URL": "redis://:s3cret@h", "FABRIC_SESSION": "s"}
    done = lone.good("rules", "show", "--settings", **more)
    assert "s3cret" not in done.out
    assert 'redis_url = "(not shown)"  # text; FABRIC_REDIS_URL' in done.lines
    assert 'session = "s"  # text; FABRIC_SESSION' in done.lines
    assert "stream = not set  # text; default" in done.lines
    assert f"lease_ms = 900  # ms; {lone.home / 'fabric.toml'}:1; default 5000" in done.lines
    records = lone.good("rules", "show", "--settings", "--json", **more).json["records"]
    assert "s3cret" not in str(records)
    assert {record["name"]: record["value"] for record in records}["lease_ms"] == 900


def test_the_example_file_is_printed(lone: Shell) -> None:
    text = lone.good("rules", "show", "--example").out
    (lone.home / "fabric.toml").write_text(text)
    assert lone.run("rules", "check").code == 0


@pytest.mark.parametrize(
    ("text", "more", "words"),
    [
        ("lease_ms = 'soon'", {}, 'fabric.toml:1: lease_ms: found "soon"; write milliseconds, a'),
        ("", {"FABRIC_LEASE_MS": "1"}, 'setting lease_ms: found "1"; write milliseconds, a whole'),
        ("", {"FABRIC_LEASE_MS": "1"}, "from 200 to 600000 (FABRIC_LEASE_MS)"),
        ("", {"FABRIC_NAMESPACE": "a b"}, "in double quotes (FABRIC_NAMESPACE)"),
    ],
)
def test_a_setting_that_is_wrong_is_named_with_its_place(
    lone: Shell, text: str, more: dict[str, str], words: str
) -> None:
    (lone.home / "fabric.toml").write_text(text)
    done = lone.run("orchestrator", "--redis-url", NOBODY, **more)
    assert done.code == 2
    assert words in done.err
    if text:
        assert words in lone.run("rules", "check").out


def test_the_defaults_are_shown_without_a_file(lone: Shell) -> None:
    assert "the defaults" in lone.run("rules", "show").err
    assert lone.good("rules", "show", "--json").json["file"] is None


@pytest.mark.parametrize("words", [("orchestrator",), ("up",), ("demo",)], ids=lambda w: str(w[0]))
def test_a_faulty_file_stops_the_start(lone: Shell, words: tuple[str, ...]) -> None:
    (lone.home / "fabric.toml").write_text(FAULTY)
    done = lone.run(*words, "--redis-url", NOBODY)
    assert (done.code, done.out) == (2, "")
    assert "fabric.toml:2: storms.hops_max: found 0" in done.err
    assert "(1 more: `fabric rules check` shows all)" in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize(
    ("text", "words"), [("", "the defaults"), ("[storms]\nhops_max = 5\n", "fabric.toml")]
)
def test_an_orchestrator_says_where_its_rules_are_from(lone: Shell, text: str, words: str) -> None:
    (lone.home / "fabric.toml").write_text(text)
    process = lone.start("orchestrator", "--redis-url", NOBODY)
    assert process.stderr is not None
    said: list[str] = []
    for line in process.stderr:
        said.append(line)
        if "connection failed" in line:
            break
    process.terminate()
    assert end(process).code == 0, said
    (line,) = [line for line in said if "rules: " in line]
    assert words in line
