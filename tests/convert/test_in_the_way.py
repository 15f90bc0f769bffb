"""Links and planted things in a destination: refused by name, and nothing outside of it is ever written or removed."""

from __future__ import annotations

import json
import os
import shutil
import socket

import pytest

import weighbridge.api as wb
from tests.convert.test_finished import SMALL
from tests.plan.tools import all_bytes
from weighbridge.cli import main
from weighbridge.convert.run import convert
from weighbridge.errors import WeighbridgeError
from weighbridge.testing.tiny import write_tiny

KINDS = ("link to a file", "link to a folder", "dangling link", "hard link", "fifo", "socket", "folder")


@pytest.fixture
def source(tmp_path):
    write_tiny(tmp_path / "src", **SMALL)
    (tmp_path / "src" / "README.md").write_text("A model.\n")
    return tmp_path / "src"


@pytest.fixture
def outside(tmp_path):
    """What must stay as it is."""
    folder = tmp_path / "outside"
    (folder / "sub").mkdir(parents=True)
    (folder / "journal.jsonl").write_text("mine")
    (folder / "lock").write_text("mine")
    (folder / "file").write_text("mine")
    (folder / "sub" / "file").write_text("mine")
    return folder


def plant(path, kind, outside) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "link to a file":
        path.symlink_to(outside / "file")
    elif kind == "link to a folder":
        path.symlink_to(outside)
    elif kind == "dangling link":
        path.symlink_to(outside / "new")
    elif kind == "hard link":
        os.link(outside / "file", path)
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "socket":
        here = os.getcwd()
        os.chdir(path.parent)  # the name of a socket may have 107 characters
        try:
            socket.socket(socket.AF_UNIX).bind(path.name)
        finally:
            os.chdir(here)
    else:
        path.mkdir()
        (path / "inside").write_text("mine")


def plan_of(source, layout="hf-bf16", **options):
    return wb.open(source).plan(layout, **options)


def unfinished(plan, out, entries=()) -> None:
    """A work folder with a journal of the right plan: anybody can compute its digest."""
    (out / ".weighbridge").mkdir(parents=True)
    lines = [{"plan": plan.digest, "source": {"files": {}, "at": 0, "boot": ""}}, *entries]
    (out / ".weighbridge" / "journal.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def listing(folder):
    return {str(p.relative_to(folder)): (p.lstat().st_mode, p.lstat().st_ino, p.lstat().st_mtime_ns) for p in sorted(folder.rglob("*"))}


def refused(plan, out, outside, name) -> None:
    before, here = (all_bytes(outside), listing(outside)), {n for n in listing(out) if n not in (".weighbridge", ".weighbridge/lock")}
    with pytest.raises(WeighbridgeError) as caught:
        convert(plan, out)
    error = caught.value
    assert error.exit_code == 2 and error.first.code in ("in-the-way", "output-not-empty"), error.problems
    assert name in error.first.where or name in error.first.message, error.problems
    assert (all_bytes(outside), listing(outside)) == before
    assert {n for n in listing(out) if n not in (".weighbridge", ".weighbridge/lock")} == here, "something in the folder was removed or made"


@pytest.mark.parametrize("kind", [k for k in KINDS if k not in ("folder",)])
def test_a_work_folder_that_is_none(source, tmp_path, outside, kind):
    out = tmp_path / "out"
    plan = plan_of(source)
    (outside / "journal.jsonl").write_text(json.dumps({"plan": plan.digest}) + "\n")
    plant(out / ".weighbridge", kind, outside)
    refused(plan, out, outside, ".weighbridge")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["lock", "journal.jsonl", "journal.jsonl.partial", "something"])
def test_things_in_the_work_folder(source, tmp_path, outside, kind, name):
    out = tmp_path / "out"
    plan = plan_of(source)
    unfinished(plan, out)
    (out / ".weighbridge" / name).unlink(missing_ok=True)
    plant(out / ".weighbridge" / name, kind, outside)
    refused(plan, out, outside, name)


def test_a_link_as_work_folder_beside_a_finished_output(source, tmp_path, outside):
    """The end of the work folder removes files: not those of another folder."""
    out = tmp_path / "out"
    plan = plan_of(source)
    convert(plan, out)
    (out / ".weighbridge").symlink_to(outside)
    refused(plan, out, outside, ".weighbridge")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["{shard}", "{shard}.partial", "config.json", "config.json.partial", "README.md", "weighbridge.json",
                                  "weighbridge.json.partial", "model.safetensors.index.json"])
def test_things_under_the_names_of_the_output(source, tmp_path, outside, kind, name):
    out = tmp_path / "out"
    plan = plan_of(source)
    name = name.format(shard=next(iter(plan.files)))
    unfinished(plan, out)
    plant(out / name, kind, outside)
    refused(plan, out, outside, name)


@pytest.mark.parametrize("kind", KINDS)
def test_a_subfolder_that_is_none_and_things_in_it(source, tmp_path, outside, kind):
    plan = plan_of(source, "neuron", shards=True, tp=2)
    shard = next(iter(plan.files))
    for number, name in enumerate([*(["weights"] if kind != "folder" else []), shard, shard + ".partial", "weights/other"]):
        out = tmp_path / str(number)
        unfinished(plan, out)
        plant(out / name, kind, outside)
        refused(plan, out, outside, name)


@pytest.mark.parametrize("kind", ["link to a file", "hard link"])
def test_a_link_to_the_right_bytes_in_a_finished_folder(source, tmp_path, kind):
    """A link is no file of the output, whatever is behind it. A second name of the right file does no harm: it is only read."""
    out = tmp_path / "out"
    plan = plan_of(source)
    convert(plan, out)
    name = next(iter(plan.files))
    moved = tmp_path / "moved"
    (out / name).rename(moved)
    if kind == "hard link":
        os.link(moved, out / name)
        assert convert(plan, out).already
    else:
        (out / name).symlink_to(moved)
        with pytest.raises(WeighbridgeError) as caught:
            convert(plan, out)
        assert name in caught.value.first.where and "is a link" in caught.value.first.message


def test_a_planted_journal_that_calls_garbage_done_is_not_believed(source, tmp_path):
    """In the form of today, with the hash of other bytes, and in the form of versions before hashes."""
    plan = plan_of(source)
    convert(plan, tmp_path / "whole")
    name = next(iter(plan.files))
    size = (tmp_path / "whole" / name).stat().st_size
    boot = open("/proc/sys/kernel/random/boot_id").read().strip()
    record = {"file": name, "size": size, "synced": True, "boot": boot, "losses": {}}
    for number, entry in enumerate([record, record | {"hash": "0" * 32, "source": {}}, record | {"hash": "0" * 32, "source": {"model": {"9": "x"}}}]):
        out = tmp_path / str(number)
        unfinished(plan, out, [entry])
        (out / name).write_bytes(b"x" * size)
        result = convert(plan, out)
        assert all_bytes(out) == all_bytes(tmp_path / "whole") and name in result.again


@pytest.mark.parametrize("line", [{"file": "../outside/file", "size": 4}, {"file": "/etc/passwd", "size": 1}, {"file": 1}, {"file": "x", "losses": 1},
                                  [], 1, None,
                                  {"file": "config.json", "size": -1, "hash": "0" * 32, "losses": {}, "source": {}},
                                  {"file": "config.json", "size": 1, "hash": "0" * 32, "losses": {"a": {"values": "x"}}, "source": {}}])
def test_strange_lines_of_a_journal_say_nothing(source, tmp_path, outside, line):
    plan = plan_of(source)
    convert(plan, tmp_path / "whole")
    before = all_bytes(outside)
    unfinished(plan, tmp_path / "out", [line])
    convert(plan, tmp_path / "out")
    assert all_bytes(tmp_path / "out") == all_bytes(tmp_path / "whole") and all_bytes(outside) == before


def test_a_destination_that_the_user_names_by_a_link_is_the_folder_behind_it(source, tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "out").symlink_to("real")
    convert(plan_of(source), tmp_path / "out")
    assert (tmp_path / "out").is_symlink() and (tmp_path / "real" / "weighbridge.json").exists()
    (tmp_path / "nowhere").symlink_to("gone")
    with pytest.raises(WeighbridgeError):
        convert(plan_of(source), tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["README.md", "tokenizer.json", "LICENSE"])
def test_a_companion_behind_a_link_out_of_the_source_is_not_copied(source, tmp_path, outside, name, capsys):
    (source / name).unlink(missing_ok=True)
    (source / name).symlink_to(outside / "file")
    assert main(["convert", str(source), str(tmp_path / "out"), "--to", "hf-bf16"]) == 2
    said = capsys.readouterr().err
    assert name in said and str(outside / "file") in said and not (tmp_path / "out").exists()
    assert main(["convert", str(source), "--to", "hf-bf16", "--dry-run"]) == 1
    assert "link-leads-out" in capsys.readouterr().out


def test_a_companion_behind_a_link_inside_the_source_or_the_hubs_cache_is_copied(source, tmp_path):
    (source / "tokenizer.json").symlink_to("README.md")
    convert(plan_of(source), tmp_path / "out")
    assert (tmp_path / "out" / "tokenizer.json").read_text() == "A model.\n" and not (tmp_path / "out" / "tokenizer.json").is_symlink()
    (source / "tokenizer.json").unlink()
    snapshot, blobs = tmp_path / "models--a--b" / "snapshots" / "abc", tmp_path / "models--a--b" / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for number, path in enumerate(sorted(source.iterdir())):
        shutil.copy(path, blobs / str(number))
        (snapshot / path.name).symlink_to(f"../../blobs/{number}")
    convert(plan_of(snapshot), tmp_path / "hub")
    assert (tmp_path / "hub" / "README.md").read_text() == "A model.\n"
    (snapshot / "README.md").unlink()
    (snapshot / "README.md").symlink_to("../../../src/README.md")
    with pytest.raises(WeighbridgeError) as caught:
        convert(plan_of(snapshot), tmp_path / "no")
    assert caught.value.first.code == "link-leads-out"


@pytest.mark.parametrize("kind", ["hard link", "link to a file", "dangling link"])
def test_what_is_planted_between_the_look_and_the_opening_is_not_written_through(source, tmp_path, outside, kind, monkeypatch):
    from weighbridge.convert import system

    class Raced(system.System):
        def open(self, name, flags, at):
            if name.endswith("safetensors.partial") and flags & os.O_CREAT:
                plant(tmp_path / "out" / name, kind, outside)
            return super().open(name, flags, at)

    monkeypatch.setattr(system, "CURRENT", Raced())
    before = all_bytes(outside)
    with pytest.raises(WeighbridgeError) as caught:
        convert(plan_of(source), tmp_path / "out")
    assert caught.value.exit_code == 2 and all_bytes(outside) == before
