"""A conversion that is killed goes on where it was, and ends with the bytes of one that was not."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import weighbridge.api as wb
from tests.plan.tools import DEMO, all_bytes, convert
from weighbridge.errors import WeighbridgeError
from weighbridge.testing.tiny import EVEN, write_tiny

OPTIONS = {"attention": "exact", "tp": 4}
MOMENTS = 10
# Says each slab, and waits there, so that the parent can choose any moment of the run.
CHILD = """
import sys, time
import weighbridge.api as wb
import weighbridge.convert.shape as shape
shape.SLAB = 1 << 17
def progress(done, total):
    print(done, flush=True)
    time.sleep(0.002)
model = wb.open(sys.argv[1])
print("ready", flush=True)
model.convert(sys.argv[2], "neuron", progress=progress, attention="exact", tp=4)
print("end", flush=True)
"""


@pytest.fixture(scope="module", autouse=True)
def small_slabs():
    """Many units of work, as a large model has them. Measured losses hang on it, so child and parent agree."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("weighbridge.convert.shape.SLAB", 1 << 17)
        patch.setenv("WEIGHBRIDGE_THREADS", "1")
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted run."""
    return all_bytes(convert(DEMO, tmp_path_factory.mktemp("whole") / "out", "neuron", **OPTIONS))


@pytest.fixture(scope="module")
def even(tmp_path_factory):
    return write_tiny(tmp_path_factory.mktemp("even") / "src", **EVEN)


def kill_at(line: int, delay: float, out: Path) -> int:
    """Start a conversion, SIGKILL it `delay` seconds after it has said `line` lines; returns how many it said."""
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(DEMO), str(out)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    said = 0
    while said < line and child.stdout.readline():
        said += 1
    time.sleep(delay)
    child.send_signal(signal.SIGKILL)
    child.stdout.close()
    assert child.wait() == -signal.SIGKILL
    return said


def slab_count() -> int:
    from weighbridge.convert.shape import file_shape, slabs

    plan = wb.open(DEMO).plan("neuron", **OPTIONS)
    return sum(1 for name, targets in plan.files.items() for _ in slabs(file_shape(name, targets)))


def test_killed_at_ten_random_moments_the_bytes_are_the_same(whole, tmp_path):
    seed = random.randrange(1 << 30)
    chance, count = random.Random(seed), slab_count()
    print(f"seed {seed}")  # shown where the test fails
    unfinished = 0
    for moment in range(MOMENTS):
        out = tmp_path / str(moment)
        kill_at(chance.randint(1, count), chance.uniform(0, 0.003), out)
        if out.exists() and (names := {p.name for p in out.iterdir()}):
            assert ("weighbridge.json" in names) != (".weighbridge" in names) or ".weighbridge" in names
            unfinished += ".weighbridge" in names
        result = wb.open(DEMO).convert(out, "neuron", **OPTIONS)
        assert all_bytes(out) == whole, f"killed at moment {moment}, seed {seed}"
        assert result.document()["complete"]
    assert unfinished >= MOMENTS // 2


def test_killed_again_and_again_on_the_way_it_still_ends_right(whole, tmp_path):
    """The same folder, three kills one after the other."""
    for line in (20, 30, 40):
        kill_at(line, 0.001, tmp_path / "out")
    convert(DEMO, tmp_path / "out", "neuron", **OPTIONS)
    assert all_bytes(tmp_path / "out") == whole


class Broken(Exception):
    pass


def break_off(source: Path, out: Path, after_files: int) -> dict[str, float]:
    """Stop a conversion (by an error in its progress) after some whole files; returns their times of change."""
    def progress(done: int, total: int) -> None:
        if len(list(out.glob("*.safetensors"))) >= after_files:
            raise Broken

    with pytest.raises(Broken):
        wb.open(source).convert(out, "neuron", progress=progress, **OPTIONS)
    return {p.name: p.stat().st_mtime_ns for p in out.glob("*.safetensors")}


def test_whole_files_are_not_written_again(even, tmp_path):
    before = break_off(even, tmp_path / "out", 2)
    assert len(before) == 2
    convert(even, tmp_path / "out", "neuron", **OPTIONS)
    assert {name: (tmp_path / "out" / name).stat().st_mtime_ns for name in before} == before


def test_after_a_restart_of_the_machine_unsynced_files_are_written_again(even, tmp_path):
    """Their bytes may never have reached the disk: here they are damaged, and another boot is in the journal."""
    wanted = all_bytes(convert(even, tmp_path / "whole", "neuron", **OPTIONS))
    out = tmp_path / "out"
    names = break_off(even, out, 2)
    for name in names:
        (out / name).write_bytes(bytes((out / name).stat().st_size))
    journal = out / ".weighbridge" / "journal.jsonl"
    records = [json.loads(line) for line in journal.read_text().splitlines()]
    assert [r.get("boot") for r in records[1:]] == [Path("/proc/sys/kernel/random/boot_id").read_text().strip()] * 2
    for record in records[1:]:
        record["boot"] = "00000000-0000-0000-0000-000000000000"
    journal.write_text("".join(json.dumps(r) + "\n" for r in records))
    convert(even, out, "neuron", **OPTIONS)
    assert all_bytes(out) == wanted


@pytest.mark.parametrize("damage", ["torn", "shorter", "gone"])
def test_a_torn_journal_or_a_damaged_file_costs_only_work(even, damage, tmp_path):
    wanted = all_bytes(convert(even, tmp_path / "whole", "neuron", **OPTIONS))
    out = tmp_path / "out"
    name = next(iter(break_off(even, out, 1)))
    if damage == "torn":
        journal = out / ".weighbridge" / "journal.jsonl"
        journal.write_bytes(journal.read_bytes()[:-10])
    elif damage == "shorter":
        (out / name).write_bytes((out / name).read_bytes()[:-1])
    else:
        (out / name).unlink()
    convert(even, out, "neuron", **OPTIONS)
    assert all_bytes(out) == wanted


def test_what_is_recorded_after_a_torn_line_is_not_lost(tmp_path):
    """The second record is torn; the runs after it must not write their records behind it on the same line."""
    out = tmp_path / "out"
    break_off(DEMO, out, 2)
    journal = out / ".weighbridge" / "journal.jsonl"
    journal.write_bytes(journal.read_bytes()[:-10])
    times = break_off(DEMO, out, 3)
    convert(DEMO, out, "neuron", **OPTIONS)
    assert len(times) == 3 and {name: (out / name).stat().st_mtime_ns for name in times} == times


def test_an_unfinished_folder_of_another_plan_is_refused(even, tmp_path):
    out = tmp_path / "out"
    break_off(even, out, 1)
    before = all_bytes(out)
    with pytest.raises(WeighbridgeError) as caught:
        convert(even, out, "neuron", attention="row", tp=4)
    assert caught.value.first.code == "other-plan" and str(out) in str(caught.value)
    assert all_bytes(out) == before


@pytest.mark.parametrize("left", ["folder", "empty journal"])
def test_a_kill_in_the_first_moment_does_not_lock_the_folder(even, left, tmp_path):
    """Between the folder, the journal and its first line."""
    work = tmp_path / "out" / ".weighbridge"
    work.mkdir(parents=True)
    if left == "empty journal":
        (work / "journal.jsonl").touch()
    convert(even, tmp_path / "out", "neuron", **OPTIONS)
    assert (tmp_path / "out" / "weighbridge.json").exists()


def test_a_kill_in_the_last_moment_leaves_a_complete_folder(even, tmp_path):
    """The manifest is there, the journal is gone, its folder is not: the next run cleans up."""
    out = convert(even, tmp_path / "out", "neuron", **OPTIONS)
    wanted = all_bytes(out)
    (out / ".weighbridge").mkdir()
    assert wb.open(even).convert(out, "neuron", **OPTIONS).already
    assert all_bytes(out) == wanted and not (out / ".weighbridge").exists()


def test_a_finished_folder_is_left_alone(even, tmp_path):
    out = convert(even, tmp_path / "out", "neuron", **OPTIONS)
    before = {p: p.stat().st_mtime_ns for p in out.rglob("*")}
    document = wb.open(even).convert(out, "neuron", **OPTIONS).document()
    assert document["already_complete"] and {p: p.stat().st_mtime_ns for p in out.rglob("*")} == before
    with pytest.raises(WeighbridgeError) as caught:
        convert(even, out, "hf-bf16")
    assert caught.value.first.code == "output-not-empty"
