"""The quick look says yes only where nothing can have happened."""

from __future__ import annotations

import os

import pytest

from weighbridge.convert import looks
from weighbridge.convert.looks import REST, Looks, Memory


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.setenv("WEIGHBRIDGE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "file").write_text("text")
    return tmp_path / "file"


def seen(file, later: int = REST + 1) -> Looks:
    """A look at `file`, taken `later` nanoseconds after its last change."""
    look = Looks.now({"file": file.stat()})
    look.at = max(look.files["file"][2:]) + later
    return look


def test_a_file_at_rest_is_the_same(file):
    assert seen(file).same("file", file.stat()) and not seen(file).same("other", file.stat())


@pytest.mark.parametrize("later", [0, 1, REST])
def test_a_file_that_had_just_changed_is_not_known(file, later):
    """A second change may bear the same times."""
    assert not seen(file, later).same("file", file.stat())


def test_after_a_restart_of_the_machine_nothing_is_known(file, monkeypatch):
    look = seen(file)
    monkeypatch.setattr(looks, "boot_id", lambda: "another")
    assert not look.same("file", file.stat())
    monkeypatch.setattr(looks, "boot_id", lambda: "")
    assert not Looks(look.files, look.at, "").same("file", file.stat())


@pytest.mark.parametrize("change", ["write with old times", "replace", "touch", "longer"])
def test_each_change_shows(file, change):
    look, before = seen(file), file.stat()
    if change == "write with old times":
        file.write_text("TEXT")
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    elif change == "replace":
        file.rename(file.with_name("old"))
        file.write_text("text")
    elif change == "touch":
        file.touch()
    else:
        file.write_text("text and more")
    assert not look.same("file", file.stat())


@pytest.mark.parametrize("harm", ["none", "other manifest", "torn", "link", "types", "gone"])
def test_what_is_kept_between_runs(file, tmp_path, harm):
    memory = Memory("manifest", seen(file), Looks({}))
    looks.save(tmp_path, memory)
    (kept,) = (tmp_path / "cache" / "looks").iterdir()
    if harm == "torn":
        kept.write_bytes(kept.read_bytes()[:-3])
    elif harm == "link":
        kept.rename(tmp_path / "moved")
        kept.symlink_to(tmp_path / "moved")
    elif harm == "types":
        kept.write_bytes(kept.read_bytes().replace(b'"at":', b'"at":"x","bt":'))
    elif harm == "gone":
        kept.unlink()
    found = looks.load(tmp_path, "another" if harm == "other manifest" else "manifest")
    assert found.output.same("file", file.stat()) == (harm == "none")


def test_a_cache_that_cannot_be_written_costs_nothing_else(file, tmp_path, monkeypatch):
    (tmp_path / "cache").write_text("a file")
    looks.save(tmp_path, Memory("manifest", seen(file), Looks({})))
    assert looks.load(tmp_path, "manifest").output.files == {}
