"""Nothing goes past the door: what a conversion changes on the disk, it changes through weighbridge/convert/system.py."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

from tests.faults.door import small

CHILD = """
import os, sys, threading
import weighbridge.api as wb
from tests.faults.door import Door
from weighbridge.convert import system
source, cache, *outs = sys.argv[1:]
inside, past = threading.local(), []
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link", "os.symlink", "os.chmod", "os.chown", "os.utime", "os.mkfifo")

def hook(event, arguments):
    if getattr(inside, "door", False):
        return
    if event == "open" and not (isinstance(arguments[2], int) and arguments[2] & WRITES):
        return
    if event == "open" or event in CHANGES:
        path = str(arguments[0])
        if not path.startswith(cache) and path != os.devnull and "__pycache__" not in path:
            past.append((event, path))

class Marked(system.System):
    def __getattribute__(self, name):
        real = object.__getattribute__(self, name)
        def call(*arguments):
            inside.door = True
            try:
                return real(*arguments)
            finally:
                inside.door = False
        return call

wb.open(source).convert(outs[0] + "-warm", "neuron")  # imports and kernels
system.CURRENT = Marked()
sys.addaudithook(hook)
for out in outs:
    for layout, options in (("hf-bf16", {}), ("neuron", {"shards": True, "tp": 2})):
        wb.open(source).convert(out + layout, layout, **options)
        wb.open(source).convert(out + layout, layout, **options)
assert not past, past
open(outs[0] + "-own", "w").close()  # the hook is alive: it sees this child's own file
assert past == [("open", outs[0] + "-own")], past
"""


def test_a_conversion_writes_through_the_door_alone(tmp_path):
    cache = str(tmp_path / "cache")
    done = subprocess.run([sys.executable, "-c", CHILD, str(small(tmp_path / "src")), cache, str(tmp_path / "out")], capture_output=True, text=True,
                          check=False, env={**os.environ, "WEIGHBRIDGE_CACHE": cache, "NUMBA_CACHE_DIR": os.path.join(cache, "numba")})
    assert done.returncode == 0, done.stderr


def test_a_real_system_call_that_fails_is_reported_and_the_next_run_goes_on(tmp_path):
    """The same as in this process, by the kernel's hand: strace fails one call of the command. Skipped where it is not installed."""
    if not shutil.which("strace"):
        pytest.skip("strace is not installed")
    source, out = small(tmp_path / "src"), tmp_path / "out"
    command = [sys.executable, "-m", "weighbridge", "convert", str(source), str(out), "--to", "hf-bf16", "--fsync"]
    for call, code in (("pwrite64", "EIO"), ("fsync", "EIO"), ("fallocate", "ENOSPC"), ("renameat", "EIO")):
        traced = ["strace", "-f", "-qq", "-o", os.devnull, "-e", f"inject={call}:error={code}:when=2"]
        done = subprocess.run([*traced, *command], capture_output=True, text=True, check=False)
        if "ptrace" in done.stderr and "not permitted" in done.stderr:
            pytest.skip("this machine forbids strace")
        assert done.returncode == 2 and str(out) in done.stderr, (call, done.returncode, done.stderr)
        assert not (out / "weighbridge.json").exists(), call
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert subprocess.run([sys.executable, "-m", "weighbridge", "verify", str(out)], capture_output=True, check=False).returncode == 0
