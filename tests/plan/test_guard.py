"""The handler of SIGBUS: bytes of our maps that vanish become zeros and a mark, everything else dies as it did before."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import numpy as np
import pytest

from weighbridge.encoding import kernels
from weighbridge.errors import WeighbridgeError
from weighbridge.plan.guard import guard
from weighbridge.plan.mapping import MappedFile

PAGE = os.sysconf("SC_PAGE_SIZE")
OURS = """
    import ctypes, faulthandler, mmap, os, signal, sys
    import numpy as np
    from weighbridge.plan.mapping import MappedFile
    from weighbridge.plan.guard import guard
    path = sys.argv[1]
    def foreign():
        "A fault in a map that is not ours."
        with open(path + ".foreign", "wb") as file:
            file.truncate(8192)
        with open(path + ".foreign", "rb") as file:
            other = np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), np.uint8)
        os.truncate(path + ".foreign", 0)
        return other[5000]
    def ours():
        "A fault in a map of ours: True where zeros came and the mark is there."
        with open(path, "wb") as file:
            file.write(b"x" * 100_000)
        mapped = MappedFile(path)
        view = np.asarray(mapped)
        os.truncate(path, 4096)
        gone = not view[-5000:].any()
        try:
            mapped.require_unchanged()
        except Exception as error:
            return gone and "source-changed" in repr(error.problems)
"""


def child(code: str, path: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    script = textwrap.dedent(OURS) + textwrap.dedent(code)
    return subprocess.run([sys.executable, *flags, "-c", script, path], capture_output=True, text=True, check=False, timeout=120)


def written(path: Path, pages: int = 64) -> Path:
    path.write_bytes(b"\x01" * (pages * PAGE))
    return path


def test_what_is_cut_off_reads_as_zero_and_is_marked(tmp_path: Path) -> None:
    path = written(tmp_path / "a")
    mapped, other = MappedFile(path), MappedFile(written(tmp_path / "b"))
    view = np.asarray(mapped)
    os.truncate(path, 10 * PAGE + 100)
    assert view.sum(dtype=np.int64) == 10 * PAGE + 100
    assert mapped.guard.faulted(mapped.row) and not mapped.guard.faulted(other.row)
    with pytest.raises(WeighbridgeError, match=f"it had {64 * PAGE:,} bytes, now it has {10 * PAGE + 100:,}"):
        mapped.require_unchanged()
    other.require_unchanged()


def test_a_file_that_grew_back_is_not_believed(tmp_path: Path) -> None:
    path = written(tmp_path / "a")
    mapped, before = MappedFile(path), path.stat()
    view = np.asarray(mapped)
    os.truncate(path, PAGE)
    assert view[-1] == 0
    with open(path, "r+b") as file:
        file.write(b"\x01" * (64 * PAGE))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(WeighbridgeError, match="could not be read"):
        mapped.require_unchanged()


def test_kernels_in_several_threads(tmp_path: Path) -> None:
    path = written(tmp_path / "a", 2000)
    mapped = MappedFile(path)
    view, same = np.asarray(mapped), np.ones(2000 * PAGE, np.uint8)
    kernels.load("same_bytes")
    os.truncate(path, 1000 * PAGE)
    found: list[int] = []
    starts = [0, 900, 1000, 1500]
    threads = [threading.Thread(target=lambda s=s * PAGE: found.append(s + kernels.same_bytes(view.ctypes.data + s, same.ctypes.data, view.size - s)))
               for s in starts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [1000 * PAGE, 1000 * PAGE, 1000 * PAGE, 1500 * PAGE]


def test_the_kernel_reads_it_for_a_write_and_says_so(tmp_path: Path) -> None:
    """`pwrite` from a page that is gone gives EFAULT and no signal: `convert` asks for the reason."""
    path = written(tmp_path / "a")
    view = np.asarray(MappedFile(path))
    os.truncate(path, PAGE)
    with open(tmp_path / "out", "wb") as out, pytest.raises(OSError, match="Bad address"):
        os.pwrite(out.fileno(), memoryview(view[2 * PAGE :]), 0)


def test_a_map_holds_no_descriptor_and_goes_with_its_last_view(tmp_path: Path) -> None:
    """`mmap.mmap` kept one for each file: 1,024 shards were the end."""
    gc.collect()  # maps that other tests left: their places are free before, not meanwhile
    path = written(tmp_path / "a")
    before = len(os.listdir("/proc/self/fd"))
    many = [MappedFile(path) for _ in range(50)]
    assert len(os.listdir("/proc/self/fd")) == before and Path("/proc/self/maps").read_text().count(str(path)) >= 1
    view, rows = np.asarray(many.pop()), {each.row for each in many}
    del many
    gc.collect()
    assert view.sum(dtype=np.int64) == 64 * PAGE
    again = [MappedFile(path) for _ in range(49)]
    assert {each.row for each in again} == rows  # places in the table are used again
    del view, again
    gc.collect()
    assert str(path) not in Path("/proc/self/maps").read_text()


def test_a_view_is_read_only(tmp_path: Path) -> None:
    assert not np.asarray(MappedFile(written(tmp_path / "a"))).flags.writeable


@pytest.mark.parametrize(("name", "says"), [("absent", "No such file"), ("empty", "it is empty"), (".", "cannot be mapped")])
def test_what_cannot_be_mapped_is_named(name: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    with pytest.raises(WeighbridgeError, match=says):
        MappedFile(tmp_path / name)


def test_other_faults_and_signals_kill_as_before(tmp_path: Path) -> None:
    for code in ("ours(); foreign()", "ours(); os.kill(os.getpid(), signal.SIGBUS)", "ours(); signal.raise_signal(signal.SIGBUS)",
                 "guard(); foreign()"):
        done = child(code + "; print('alive')", tmp_path / "a")
        assert (done.returncode, done.stdout) == (-signal.SIGBUS, ""), (code, done)


def test_a_handler_of_the_caller_still_gets_what_is_not_ours(tmp_path: Path) -> None:
    code = """
    signal.signal(signal.SIGBUS, lambda number, frame: print("caller", flush=True) or os._exit(5))
    print(ours(), flush=True)
    os.kill(os.getpid(), signal.SIGBUS)
    while True: pass
    """
    done = child(code, tmp_path / "a")
    assert (done.returncode, done.stdout) == (5, "True\ncaller\n"), done


@pytest.mark.parametrize("when", ["before", "after"])
def test_faulthandler_keeps_its_word(when: str, tmp_path: Path) -> None:
    """pytest turns it on. It may come before us or between two maps."""
    code = {"before": "faulthandler.enable(); print(ours(), flush=True); foreign()",
            "after": "ours(); faulthandler.enable(); print(ours(), flush=True); foreign()"}[when]
    done = child(code, tmp_path / "a")
    assert done.returncode == -signal.SIGBUS and done.stdout == "True\n", done
    assert "Fatal Python error: Bus error" in done.stderr and "in foreign" in done.stderr, done


def test_a_fork_has_the_guard_too(tmp_path: Path) -> None:
    mapped = MappedFile(written(tmp_path / "a"))
    view = np.asarray(mapped)
    child_process = os.fork()
    if child_process == 0:
        os.truncate(tmp_path / "a", PAGE)
        os._exit(40 + int(view[-1]) + 2 * mapped.guard.faulted(mapped.row))
    assert os.waitstatus_to_exitcode(os.waitpid(child_process, 0)[1]) == 42
    assert guard() is mapped.guard and not guard().faulted(mapped.row)


def test_maps_and_kernels_may_be_the_first_to_need_numba_in_two_threads(tmp_path: Path) -> None:
    """`verify` maps in one thread and loads a kernel in another: numba imported by both at once is a deadlock to Python."""
    code = """
    import threading
    from weighbridge.encoding import kernels
    with open(path, "wb") as file:
        file.write(b"x")
    faulthandler.dump_traceback_later(60, exit=True)
    failed, go = [], threading.Barrier(6)
    def first(work):
        go.wait()
        try:
            work()
        except BaseException as error:
            failed.append(repr(error))
    works = [lambda: MappedFile(path), lambda: kernels.load("same_bytes"), kernels.family] * 2
    threads = [threading.Thread(target=first, args=(work,)) for work in works]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    print(failed)
    """
    done = child(code, tmp_path / "a")
    assert done.stdout == "[]\n", done
