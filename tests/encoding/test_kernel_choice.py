"""What is imported, which family runs, where the compiled code goes, and that kernels let other threads run."""

import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from weighbridge.encoding import kernels

ROOT = Path(kernels.__file__).parents[3]


def python(code, **environment):
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    return done.stdout.strip(), done.stderr


@pytest.mark.parametrize("module", ["codec", "kernels"])
def test_importing_loads_neither_numba_nor_torch_nor_ml_dtypes(module):
    out, err = python(
        f"import sys, weighbridge.encoding.{module}; print(sorted({{'numba', 'torch', 'ml_dtypes'}} & set(sys.modules)))"
    )
    assert out == "[]", err


def test_the_environment_chooses_the_family():
    code = "from weighbridge.encoding import kernels; print(kernels.family())"
    assert python(code, WEIGHBRIDGE_KERNELS="portable")[0] == "portable"
    assert "the kernel families are portable, vector" in python(code, WEIGHBRIDGE_KERNELS="turbo")[1]


def test_a_cpu_without_avx2_gets_the_portable_family():
    code = "from weighbridge.encoding import kernels; print(kernels.family())"
    assert python(code, WEIGHBRIDGE_KERNELS="", NUMBA_CPU_NAME="generic", NUMBA_CPU_FEATURES="")[0] == "portable"


def test_the_cache_goes_where_the_environment_says(tmp_path):
    code = (
        "from weighbridge.encoding import kernels\n"
        "kernels.same_bytes(0, 0, 0); print(sum(kernels.same_bytes.stats.cache_hits.values()))"
    )
    environment = {"WEIGHBRIDGE_CACHE": str(tmp_path), "NUMBA_CACHE_DIR": ""}
    assert python(code, **environment)[0] == "0"
    assert list((tmp_path / "numba").rglob("*.nbc"))
    assert python(code, **environment)[0] == "1"


def test_a_change_in_any_file_of_the_kernels_makes_a_new_cache_entry(tmp_path):
    copy = tmp_path / "weighbridge" / "encoding"
    shutil.copytree(ROOT / "weighbridge" / "encoding", copy, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "weighbridge" / "__init__.py").touch()
    shutil.copy(ROOT / "weighbridge" / "cachefolder.py", tmp_path / "weighbridge")
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from weighbridge.encoding import kernels\n"
        "print(kernels.same_bytes.__qualname__)"
    )
    names = []
    for line in ("", "# another comment\n"):
        with open(copy / "kernels" / "memory.py", "a", encoding="utf-8") as file:
            file.write(line)
        names.append(python(code, WEIGHBRIDGE_KERNELS="portable"))
    assert names[0] != names[1] and all(name.startswith("same_bytes_") for name, _ in names), names


def test_kernels_work_where_no_cache_can_be_written():
    code = (
        "from numba.core import caching\n"
        "for kind in vars(caching).values():\n"
        "    if hasattr(kind, '_locator_classes'): kind._locator_classes = []\n"
        "from weighbridge.encoding import kernels; print(kernels.same_bytes(0, 0, 0))"
    )
    assert python(code, NUMBA_CACHE_DIR="") == ("-1", "")


def test_no_kernel_has_that_name():
    with pytest.raises(AttributeError, match="no attribute 'decode_f16'"):
        _ = kernels.decode_f16


def test_other_threads_run_meanwhile():
    a = np.zeros(200_000_000, np.uint8)
    kernels.same_bytes(a.ctypes.data, a.ctypes.data, 0)
    worker = threading.Thread(target=kernels.same_bytes, args=(a.ctypes.data, a.ctypes.data, a.size))
    worker.start()
    ticks = 0
    while worker.is_alive():
        time.sleep(0.0005)
        ticks += 1
    assert ticks > 2
