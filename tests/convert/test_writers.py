"""One writer for a folder, and one source for an output, however the first run ended."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading

import pytest

import weighbridge.api as wb
from tests.convert.test_finished import SMALL, flip_signs
from tests.plan.tools import all_bytes
from weighbridge.cli import main
from weighbridge.convert.run import convert
from weighbridge.errors import WeighbridgeError
from weighbridge.testing.tiny import write_tiny

HOLDER = """
import sys, time
import weighbridge.api as wb
def progress(done, total):
    print("in work", flush=True)
    time.sleep(60)
wb.open(sys.argv[1]).convert(sys.argv[2], "hf-bf16", progress=progress)
"""


@pytest.fixture(autouse=True)
def one_thread(monkeypatch, tmp_path):
    monkeypatch.setenv("WEIGHBRIDGE_THREADS", "1")
    monkeypatch.setattr("weighbridge.convert.shape.SLAB", 1 << 14)


@pytest.fixture
def source(tmp_path):
    write_tiny(tmp_path / "src", **SMALL)
    return tmp_path / "src"


@pytest.fixture
def holder(source, tmp_path):
    """Another process that is in the middle of a conversion into `out`."""
    child = subprocess.Popen([sys.executable, "-c", HOLDER, str(source), str(tmp_path / "out")], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None and child.stdout.readline() == "in work\n"
    yield child
    child.kill()
    child.wait()
    child.stdout.close()


def test_a_second_writer_is_told_who_writes(source, tmp_path, holder, capsys):
    before = all_bytes(tmp_path / "out")
    assert main(["convert", str(source), str(tmp_path / "out"), "--to", "hf-bf16", "--format", "json"]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["code"] == "output-in-use" and error["where"] == str(tmp_path / "out")
    assert f"process {holder.pid} on {socket.gethostname()!r}, since 20" in error["message"]
    assert all_bytes(tmp_path / "out") == before
    with pytest.raises(WeighbridgeError) as caught:  # another plan, too: the lock comes first
        wb.open(source).convert(tmp_path / "out", "neuron")
    assert caught.value.first.code == "output-in-use"


def test_the_lock_ends_with_its_holder(source, tmp_path, holder):
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    convert(wb.open(source).plan("hf-bf16"), tmp_path / "whole")
    convert(wb.open(source).plan("hf-bf16"), tmp_path / "out")
    assert all_bytes(tmp_path / "out") == all_bytes(tmp_path / "whole")


def test_many_writers_at_once_one_does_the_work(source, tmp_path):
    """Threads of one process have their own locks, too. Who loses says so, or finds the folder complete."""
    plan = wb.open(source).plan("hf-bf16")
    convert(plan, tmp_path / "whole")
    for attempt in range(5):
        outcomes, start = [], threading.Barrier(6)

        def work(out=tmp_path / f"out{attempt}", outcomes=outcomes, start=start):
            start.wait()
            try:
                outcomes.append("complete" if convert(wb.open(source).plan("hf-bf16"), out).already else "made")
            except WeighbridgeError as error:
                outcomes.append(error.first.code)

        threads = [threading.Thread(target=work) for _ in range(6)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        assert outcomes.count("made") == 1 and set(outcomes) <= {"made", "complete", "output-in-use"}, outcomes
        assert all_bytes(tmp_path / f"out{attempt}") == all_bytes(tmp_path / "whole")


@pytest.mark.parametrize("text", [b"", b'{"pid":1,"host":"other","since":"2020-01-01T00:00:00+00:00"}', None])
def test_who_is_refused_leaves_the_lock_as_it_was(source, tmp_path, text):
    out = tmp_path / "out"
    break_off(source, out, 1)
    lock = out / ".weighbridge" / "lock"
    lock.unlink() if text is None else lock.write_bytes(text)
    before = all_bytes(out)
    with pytest.raises(WeighbridgeError) as caught:
        convert(wb.open(source).plan("neuron"), out)
    assert caught.value.first.code == "other-plan" and all_bytes(out) == before


class Broken(Exception):
    pass


def break_off(source, out, files: int, layout="hf-bf16") -> None:
    def progress(done, total):
        if len(list(out.glob("*.safetensors"))) >= files:
            raise Broken

    with pytest.raises(Broken):
        convert(wb.open(source).plan(layout), out, progress)


@pytest.mark.parametrize("layout", ["hf-bf16", "hf-fp8", "neuron"])
def test_an_unfinished_output_of_other_weights_is_not_gone_on_with(source, tmp_path, layout):
    out = tmp_path / "out"
    break_off(source, out, 2, layout)
    flip_signs(source)
    before = all_bytes(out)
    with pytest.raises(WeighbridgeError) as caught:
        convert(wb.open(source).plan(layout), out)
    error = caught.value.first
    assert error.code == "source-changed" and "model-0000" in error.where and str(out) in error.hint
    assert all_bytes(out) == before
    flip_signs(source)  # back: other times, the same bytes
    convert(wb.open(source).plan(layout), out)
    convert(wb.open(source).plan(layout), tmp_path / "whole")
    assert all_bytes(out) == all_bytes(tmp_path / "whole")


@pytest.mark.parametrize("how", ["written", "replaced", "removed"])
def test_a_source_that_changes_while_it_is_converted_is_noticed(source, tmp_path, how):
    victim = sorted(source.glob("*.safetensors"))[0]
    data = victim.read_bytes()
    changed = []

    def progress(done, total):
        if not changed and done > total // 2:
            changed.append(done)
            if how == "written":
                with open(victim, "r+b") as file:
                    file.seek(len(data) - 10)
                    file.write(b"\x01" * 10)
                return
            victim.unlink()
            if how == "replaced":
                victim.write_bytes(data)

    with pytest.raises(WeighbridgeError) as caught:
        convert(wb.open(source).plan("hf-bf16"), tmp_path / "out", progress)
    assert caught.value.exit_code == 2 and victim.name in caught.value.first.where
    assert not (tmp_path / "out" / "weighbridge.json").exists()
    assert len(list((tmp_path / "out").glob("*.safetensors"))) < len(wb.open(source).plan("hf-bf16").files) if how != "removed" else True


def test_a_lock_of_a_file_that_its_holder_removed_is_no_lock(tmp_path, monkeypatch):
    """A holder that ends removes the file between the opening and the locking: who locked the old file alone would have no lock."""
    from weighbridge.convert import system
    from weighbridge.convert.folder import Folder
    from weighbridge.convert.lock import acquire

    class Slow(system.System):
        again = False

        def lock(self, handle):
            if not self.again:
                self.again = True
                (tmp_path / "work" / "lock").unlink()
                (tmp_path / "work" / "lock").touch()
            super().lock(handle)

    monkeypatch.setattr(system, "CURRENT", Slow())
    first = acquire(Folder.open(tmp_path), "work/lock")
    with pytest.raises(WeighbridgeError) as caught:
        acquire(Folder.open(tmp_path), "work/lock")
    assert caught.value.first.code == "output-in-use"
    os.close(first.handle)


def test_a_source_that_was_exchanged_after_it_was_opened_is_noticed(source, tmp_path):
    """In Python a model may be opened long before it is converted."""
    model = wb.open(source)
    for path in source.glob("*.safetensors"):
        path.unlink()
    write_tiny(source, **{**SMALL, "experts": 4})
    with pytest.raises(WeighbridgeError) as caught:
        model.convert(tmp_path / "out", "hf-bf16")
    assert caught.value.first.code == "source-changed" and not (tmp_path / "out").exists()


def test_one_hash_of_a_file_whatever_threads_and_slabs_made_it(source, tmp_path, monkeypatch):
    from tests.plan.tools import load_json
    from weighbridge.convert.contents import verify_folder

    found = []
    for threads, slab in (("1", 1 << 14), ("3", 1 << 12), ("2", 1 << 22)):
        monkeypatch.setenv("WEIGHBRIDGE_THREADS", threads)
        monkeypatch.setattr("weighbridge.convert.shape.SLAB", slab)
        monkeypatch.setattr("weighbridge.convert.hashing.PART", 5000)
        monkeypatch.setattr("weighbridge.convert.manifest.HASHES", {"name": "xxh3_128", "part_bytes": 5000})
        out = tmp_path / threads
        convert(wb.open(source).plan("neuron"), out)
        assert verify_folder(out)["ok"]
        manifest = load_json(out / "weighbridge.json")
        found.append((manifest["files"], manifest["source"]))
    assert found[0] == found[1] == found[2]
    assert "model-00000" in str(found[0][1])


@pytest.mark.parametrize("layout, options", [("hf-bf16", {}), ("hf-fp8", {"scale_dtype": "BF16"}), ("neuron", {}), ("neuron", {"attention": "exact", "tp": 2}),
                                             ("neuron", {"shards": True, "tp": 2})])
def test_no_byte_of_an_output_is_read_back_for_its_hash(source, tmp_path, layout, options, monkeypatch):
    """Slabs of one tensor wait for their turn, so all is hashed as it passes."""
    from weighbridge.convert import system

    class Blind(system.System):
        def pread(self, handle, length, offset):
            pytest.fail("bytes were read back")

    monkeypatch.setenv("WEIGHBRIDGE_THREADS", "4")
    monkeypatch.setattr(system, "CURRENT", Blind())
    for number in range(3):
        convert(wb.open(source).plan(layout, **options), tmp_path / str(number))
