"""Hostile settings files are refused before a parser spends a long time on them."""

from pathlib import Path

import pytest

from fabric.config.settings import load
from fabric.config.toml_file import FILE_BYTES_MAX
from fabric.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a." * 100_000 + "b = 1", "levels of keys"),
        ("a = " + "[" * 100_000, "levels of keys or brackets"),
        ("partitions = " + "9" * 100_000, "characters without quotes"),
        ("#" * (FILE_BYTES_MAX + 1), "more than 1048576 bytes"),
        ("partitions = [", "no TOML"),
    ],
    ids=["keys", "brackets", "digits", "long", "no TOML"],
)
def test_it_is_named(
    text: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "fabric.toml"
    path.write_text(text)
    monkeypatch.setenv("FABRIC_CONFIG", str(path))
    with pytest.raises(ConfigError, match=words) as caught:
        load()
    assert "fabric.toml" in str(caught.value)


def test_one_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "fabric.toml"
    monkeypatch.setenv("FABRIC_CONFIG", str(path))
    with pytest.raises(ConfigError, match=f"{path} cannot be read: No such file"):
        load()
    monkeypatch.setenv("FABRIC_CONFIG", "/dev/null")
    assert load().partitions is None
