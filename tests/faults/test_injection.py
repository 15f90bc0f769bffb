"""Every call that changes the disk fails once, in each way: the next run ends with the right bytes, and nothing looks complete that is not.

`make test-faults` tries all calls; `make test` a part of them, another one each time.
"""

from __future__ import annotations

import errno
import os
import random
import shutil

import pytest

from tests.faults.door import FAULTS, Faulty, Killed, calls, door, run, small
from tests.plan.tools import all_bytes
from weighbridge.convert.contents import verify_folder
from weighbridge.errors import WeighbridgeError

WHOLE = os.environ.get("WEIGHBRIDGE_FAULTS") == "all"
FEW = 6  # calls of each kind of fault that `make test` tries
WAYS = {"hf-bf16": ("hf-bf16", {}), "shards": ("neuron", {"shards": True, "tp": 2})}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Calls come in the same order each time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WEIGHBRIDGE_THREADS", "1")
        yield


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return small(tmp_path_factory.mktemp("faults") / "src")


@pytest.fixture(scope="module")
def whole(source, tmp_path_factory):
    """For each way, the bytes of a run without a fault, and the calls that it makes."""
    folder = tmp_path_factory.mktemp("whole")
    found = {}
    for way, (layout, options) in WAYS.items():
        seen = calls(source, folder / way, layout, True, **options)
        found[way] = all_bytes(folder / way), seen
    return found


def numbers(count: int) -> list[int]:
    if WHOLE:
        return list(range(count))
    seed = random.randrange(1 << 30)
    print(f"seed {seed}")
    return sorted(random.Random(seed).sample(range(count), FEW))


def attempt(source, out, layout, options, fault) -> None:
    """A run that the fault may end. An error has words and is no internal one."""
    try:
        with door(fault):
            run(source, out, layout, True, **options)
        assert fault.fault == "short" or not fault.hit or fault.hit.startswith("open"), f"{fault.hit} failed, and nobody said so"
    except Killed:
        pass
    except WeighbridgeError as error:
        assert error.exit_code == 2 and error.first.where and error.first.code in ("io", "disk-full", "no-locks"), error.problems


def is_whole(out, wanted) -> bool:
    try:
        says = verify_folder(out)["ok"]
    except WeighbridgeError:
        return False
    found = {name: data for name, data in all_bytes(out).items() if not name.startswith(".weighbridge/")}
    assert not says or found == wanted, "it looks complete and is not"
    return says


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("way", WAYS)
def test_each_call_fails_once(source, whole, way, fault, tmp_path):
    (layout, options), (wanted, seen) = WAYS[way], whole[way]
    assert {"open", "write", "pwrite", "fsync", "rename", "unlink", "truncate", "allocate", "mkdir", "rmdir", "lock"} == set(seen)
    for number in numbers(len(seen)):
        out = tmp_path / str(number) / "deep" / "out"
        broken = Faulty(number, fault)
        attempt(source, out, layout, options, broken)
        assert broken.hit, number
        is_whole(out, wanted)
        run(source, out, layout, False, **options)
        assert all_bytes(out) == wanted, f"{fault} of call {number}, {broken.hit}"
        assert is_whole(out, wanted)
        shutil.rmtree(tmp_path / str(number))


def test_it_fails_again_and_again_and_still_ends_right(source, whole, tmp_path):
    """The same folder, a fault in each run, until one run meets none."""
    wanted, seen = whole["hf-bf16"]
    seed = random.randrange(1 << 30)
    print(f"seed {seed}")
    chance = random.Random(seed)
    for _ in range(200 if WHOLE else 15):
        attempt(source, tmp_path / "out", "hf-bf16", {}, Faulty(chance.randrange(len(seen)), chance.choice(FAULTS)))
        is_whole(tmp_path / "out", wanted)
    run(source, tmp_path / "out", "hf-bf16")
    assert all_bytes(tmp_path / "out") == wanted


@pytest.mark.parametrize("damage", ["gone", "cut", "flipped"])
def test_a_repair_that_fails_is_repaired_by_the_next_run(source, whole, damage, tmp_path):
    """A finished folder loses a file; making it anew fails at each call once."""
    wanted, _ = whole["hf-bf16"]
    out = tmp_path / "out"
    run(source, out, "hf-bf16")
    victim = sorted(out.glob("*.safetensors"))[0]
    count = None
    for number in range(1000):
        data = wanted[victim.name]
        victim.unlink()
        if damage != "gone":
            victim.write_bytes(data[:-1] if damage == "cut" else data[:-1] + bytes([data[-1] ^ 1]))
        broken = Faulty(number if WHOLE else number * 5, ("EIO", "kill", "ENOSPC")[number % 3])
        attempt(source, out, "hf-bf16", {}, broken)
        is_whole(out, wanted)
        if not broken.hit:
            count = number
            break
        run(source, out, "hf-bf16")
        assert all_bytes(out) == wanted, f"{broken.fault} of call {number}, {broken.hit}"
    assert count is not None and count > 3


def test_a_full_disk_says_what_is_missing_and_goes_on_when_there_is_room(source, whole, tmp_path):
    """The file that did not fit gives its room back, and the number is of all that is still to be written."""
    wanted, seen = whole["hf-bf16"]
    out = tmp_path / "out"
    broken = Faulty([n for n, name in enumerate(seen) if name == "allocate"][1], "ENOSPC")
    with pytest.raises(WeighbridgeError) as caught, door(broken):
        run(source, out, "hf-bf16", True)
    assert caught.value.first.code == "disk-full"
    shards = sorted(name for name in wanted if name.endswith(".safetensors"))
    left = sum(len(wanted[name]) for name in shards[1:])
    assert f"{left:,} are needed" in caught.value.first.message or f"{left:,} bytes" in caught.value.first.message
    assert not list(out.rglob("*.safetensors.partial"))
    first = (out / shards[0]).stat().st_mtime_ns
    run(source, out, "hf-bf16")
    assert all_bytes(out) == wanted and (out / shards[0]).stat().st_mtime_ns == first


def test_a_file_system_without_locks_is_refused_in_words(source, tmp_path):
    def unlocked(name, arguments):
        if name == "lock":
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    with pytest.raises(WeighbridgeError) as caught, door(unlocked):
        run(source, tmp_path / "out", "hf-bf16")
    assert caught.value.first.code == "no-locks"


def test_room_that_cannot_be_promised_is_taken_as_it_comes(source, whole, tmp_path):
    def unable(name, arguments):
        if name == "allocate":
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    with door(unable):
        run(source, tmp_path / "out", "hf-bf16")
    assert all_bytes(tmp_path / "out") == whole["hf-bf16"][0]
