"""The server's URL in a file, for secrets that are mounted as files."""

from pathlib import Path

import pytest

from fabric.config.settings import Secret, load
from fabric.errors import ConfigError


def test_the_url_may_stand_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "url"
    path.write_text("redis://:se-cret@far/0\n")
    monkeypatch.delenv("FABRIC_REDIS_URL", raising=False)
    monkeypatch.setenv("FABRIC_REDIS_URL_FILE", str(path))
    assert load().redis_url == Secret("redis://:se-cret@far/0")
    monkeypatch.setenv("FABRIC_REDIS_URL", "redis://near/0")
    assert load().redis_url == Secret("redis://near/0")


@pytest.mark.parametrize("content", [None, b"", b" \n", b"\xff\xfe"])
def test_a_file_without_a_url_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None
) -> None:
    path = tmp_path / "url"
    if content is not None:
        path.write_bytes(content)
    monkeypatch.delenv("FABRIC_REDIS_URL", raising=False)
    monkeypatch.setenv("FABRIC_REDIS_URL_FILE", str(path))
    with pytest.raises(ConfigError, match=f"FABRIC_REDIS_URL_FILE: {path}"):
        load()
