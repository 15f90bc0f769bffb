"""The first use of a kernel tells that it compiles; the next process finds it in the cache and says nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

CODE = "from weighbridge.encoding import kernels; kernels.when_compiling = lambda: print('compiling'); kernels.load('same_bytes', 'portable')"


def test_it_is_told_once_and_only_when_it_is_so(tmp_path: Path) -> None:
    said = [subprocess.run([sys.executable, "-c", CODE], env={**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}, capture_output=True, text=True, check=True).stdout
            for _ in range(2)]
    assert said == ["compiling\n", ""]
