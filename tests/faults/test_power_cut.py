"""A power cut after any call: with `--fsync` and without it, the same command goes on or finds the folder complete. No state is refused."""

from __future__ import annotations

import os
import random
import shutil

import pytest

import weighbridge.api as wb
from tests.faults.disk import Disk, Tree, lay_out
from tests.faults.door import door, run, small
from tests.plan.tools import all_bytes
from weighbridge.convert import journal, looks

WHOLE = os.environ.get("WEIGHBRIDGE_FAULTS") == "all"
FEW = 40  # states that `make test` tries; another choice each time
WAYS = {"hf-bf16": ("hf-bf16", {}), "shards": ("neuron", {"shards": True, "tp": 2})}


@pytest.fixture(scope="module", autouse=True)
def another_boot():
    """The machine was restarted: nothing that was seen before counts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WEIGHBRIDGE_THREADS", "1")
        yield patch


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return small(tmp_path_factory.mktemp("cut") / "src")


def recorded(source, top, layout, options, sync) -> tuple[Disk, dict[str, bytes]]:
    disk = Disk(top)
    top.mkdir()
    with door(disk):
        run(source, top / "a" / "out", layout, sync, **options)
    return disk, all_bytes(top / "a" / "out")


def distinct(trees) -> list[Tree]:
    found = {repr(sorted((name, hash(data)) for name, data in tree.items())): tree for tree in trees}
    return list(found.values())


def chosen(states: list[Tree]) -> list[Tree]:
    if WHOLE or len(states) <= FEW:
        return states
    seed = random.randrange(1 << 30)
    print(f"seed {seed}")
    return random.Random(seed).sample(states, FEW)


def goes_on(source, layout, options, wanted, states, folder, monkeypatch) -> int:
    """Run the command on each state; returns how many were complete."""
    monkeypatch.setattr(looks, "boot_id", lambda: "another")
    monkeypatch.setattr(journal, "boot_id", lambda: "another")
    plan = wb.open(source).plan(layout, **options)
    complete = 0
    for number, tree in enumerate(states):
        top = folder / str(number)
        lay_out(tree, top)
        complete += run_plan(plan, top / "a" / "out").already
        assert all_bytes(top / "a" / "out") == wanted, {name: data and len(data) for name, data in tree.items()}
        shutil.rmtree(top)
    return complete


def run_plan(plan, out):
    from weighbridge.convert.run import convert

    return convert(plan, out)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("model", ["strict", "ordered"])
def test_with_fsync_a_cut_at_any_moment_costs_only_work(source, way, model, tmp_path, monkeypatch):
    layout, options = WAYS[way]
    disk, wanted = recorded(source, tmp_path / "top", layout, options, True)
    states = distinct(tree for moment in range(len(disk.moments)) for tree in getattr(disk, model)(moment))
    assert len(states) > 60
    goes_on(source, layout, options, wanted, chosen(states), tmp_path, monkeypatch)


@pytest.mark.parametrize("way", WAYS)
def test_with_fsync_exit_0_means_that_it_is_there(source, way, tmp_path, monkeypatch):
    layout, options = WAYS[way]
    disk, wanted = recorded(source, tmp_path / "top", layout, options, True)
    states = distinct(disk.strict(len(disk.moments) - 1))
    assert goes_on(source, layout, options, wanted, states, tmp_path, monkeypatch) == len(states) == 1


@pytest.mark.parametrize("way", WAYS)
def test_without_fsync_a_cut_at_any_moment_costs_only_work(source, way, tmp_path, monkeypatch):
    layout, options = WAYS[way]
    disk, wanted = recorded(source, tmp_path / "top", layout, options, False)
    states = distinct(tree for moment in range(len(disk.moments)) for tree in disk.ordered(moment))
    assert len(states) > 60
    complete = goes_on(source, layout, options, wanted, chosen(states), tmp_path, monkeypatch)
    assert complete < len(states)


def test_fsync_over_an_unsynced_folder_brings_all_of_it_to_the_disk(source, tmp_path, monkeypatch):
    """A run without it is killed, or ends; then the same command comes with `--fsync`."""
    for number, stop in enumerate((60, 90, None)):
        top = tmp_path / f"top{number}"
        disk = Disk(top)
        top.mkdir()

        def record(name, arguments, disk=disk, stop=stop):
            if stop is not None and len(disk.moments) >= stop and name not in ("close",):
                raise Stop
            return disk(name, arguments)

        try:
            with door(record):
                run(source, top / "a" / "out", "hf-bf16")
        except Stop:
            pass
        with door(disk):
            run(source, top / "a" / "out", "hf-bf16", True)
        wanted = all_bytes(top / "a" / "out")
        states = distinct(disk.strict(len(disk.moments) - 1))
        assert goes_on(source, "hf-bf16", {}, wanted, states, tmp_path, monkeypatch) == len(states) == 1


class Stop(BaseException):
    pass
