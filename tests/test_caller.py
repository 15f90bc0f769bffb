"""What the library leaves of itself in the process, the package and the folders of who uses it."""

from __future__ import annotations

import gc
import os
import shutil
import stat
import subprocess
import sys
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest

import weighbridge as wb
from weighbridge import cachefolder
from weighbridge.collector import paused

ROOT = Path(wb.__file__).parent
DEMO = ROOT / "demo" / "checkpoint"


# ---- the garbage collector


@pytest.fixture
def collector() -> Iterator[None]:
    yield
    gc.unfreeze()
    gc.enable()


class Node:
    """One object of a cycle."""

    def __init__(self) -> None:
        self.own = self


def test_opening_keeps_no_garbage_of_the_caller(collector: None) -> None:
    """`gc.freeze()` moved whatever the process held out of the collector's sight, for ever: a cycle of the caller was never freed."""
    gc.collect()
    node, before = Node(), gc.get_freeze_count()
    gone = weakref.ref(node)
    wb.open(DEMO).plan("neuron")
    del node
    gc.collect()
    assert gone() is None and gc.get_freeze_count() == before


@pytest.mark.parametrize("enabled", [True, False])
def test_the_collector_is_as_it_was(enabled: bool, collector: None) -> None:
    (gc.enable if enabled else gc.disable)()
    with paused():
        assert not gc.isenabled()
        with paused():
            pass
        assert not gc.isenabled()
    assert gc.isenabled() is enabled
    with pytest.raises(KeyError), paused():
        raise KeyError
    assert gc.isenabled() is enabled


# ---- the cache of compiled code


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if name not in ("WEIGHBRIDGE_CACHE", "XDG_CACHE_HOME", "NUMBA_CACHE_DIR")}
    return subprocess.run([sys.executable, "-c", code], env={**kept, "PYTHONDONTWRITEBYTECODE": "1", **environment}, capture_output=True, text=True,
                          check=False, timeout=300)


KERNEL = "from weighbridge.encoding import kernels; print(kernels.same_bytes(0, 0, 0), kernels.same_bytes.stats.cache_path)"


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_verify_writes_nothing_beside_the_package(tmp_path: Path) -> None:
    """numba's cache lay in `__pycache__` of the source or of the installed package."""
    shutil.copytree(ROOT, tmp_path / "site" / "weighbridge", ignore=shutil.ignore_patterns("__pycache__"))
    before = files(tmp_path / "site")
    code = f"from weighbridge.cli import main; import sys; sys.exit(main(['verify', {str(DEMO)!r}, {str(DEMO)!r}]))"
    done = run(code, PYTHONPATH=str(tmp_path / "site"), HOME=str(tmp_path / "home"))
    assert done.returncode == 0, done.stderr
    assert files(tmp_path / "site") == before
    folder = tmp_path / "home" / ".cache" / "weighbridge" / "numba"
    assert list(folder.rglob("*.nbi")) and stat.S_IMODE(folder.stat().st_mode) == 0o700


@pytest.mark.parametrize(("environment", "where"), [
    ({"HOME": "home"}, "home/.cache/weighbridge/numba"),
    ({"HOME": "home", "XDG_CACHE_HOME": "xdg"}, "xdg/weighbridge/numba"),
    ({"HOME": "home", "XDG_CACHE_HOME": "xdg", "WEIGHBRIDGE_CACHE": "named"}, "named/numba"),
    ({"HOME": "home", "NUMBA_CACHE_DIR": "numba", "WEIGHBRIDGE_CACHE": "named"}, "numba"),
    ({"HOME": "file/home", "TMPDIR": "tmp"}, f"tmp/weighbridge-{os.geteuid()}/numba"),
])
def test_where_it_is(environment: dict[str, str], where: str, tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()
    (tmp_path / "file").touch()  # below a file no folder can be made, not even by root
    done = run(KERNEL, PYTHONPATH=str(ROOT.parent), **{name: str(tmp_path / value) for name, value in environment.items()})
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.split()[1]).is_relative_to(tmp_path / where) and list((tmp_path / where).rglob("*.nbi"))


def test_without_any_place_it_works_without_a_cache(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    code = "import tempfile; tempfile._candidate_tempdir_list = lambda: ['/proc']; " + KERNEL
    done = run(code, PYTHONPATH=str(ROOT.parent), HOME=str(tmp_path / "file" / "home"))
    assert done.returncode == 0 and done.stdout == "-1 None\n", done


def test_the_caller_of_numba_keeps_its_cache(tmp_path: Path) -> None:
    """NUMBA_CACHE_DIR was set for the whole process, and for its children."""
    code = """
import os, numba
from weighbridge.encoding import kernels
kernels.same_bytes(0, 0, 0)
print(repr(os.environ.get("NUMBA_CACHE_DIR")), repr(numba.config.CACHE_DIR))
"""
    done = run(code, PYTHONPATH=str(ROOT.parent), HOME=str(tmp_path))
    assert done.stdout == "None ''\n", done


def private(monkeypatch: pytest.MonkeyPatch, root: Path) -> Path | None:
    monkeypatch.setenv("WEIGHBRIDGE_CACHE", str(root / "cache"))
    monkeypatch.setattr(cachefolder.tempfile, "gettempdir", lambda: str(root / "file"))
    (root / "file").touch()
    return cachefolder.private_folder("numba")


def test_a_new_folder_is_for_its_owner_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        assert private(monkeypatch, tmp_path) == tmp_path / "cache" / "numba"
    finally:
        os.umask(before)
    assert [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("cache", "cache/numba")] == [0o700, 0o700]
    assert private(monkeypatch, tmp_path) == tmp_path / "cache" / "numba"


@pytest.mark.parametrize("mode", [0o702, 0o720, 0o777, 0o1777])
def test_a_folder_that_others_can_write_is_not_used(mode: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The cache holds machine code and pickles: who can write there decides what runs."""
    (tmp_path / "cache" / "numba").mkdir(parents=True)
    (tmp_path / "cache" / "numba").chmod(mode)
    assert private(monkeypatch, tmp_path) is None


@pytest.mark.parametrize(("mode", "used"), [(0o755, True), (0o1777, True), (0o757, False), (0o777, False)])
def test_nor_one_that_others_can_replace(mode: int, used: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "cache" / "numba").mkdir(parents=True, mode=0o700)
    (tmp_path / "cache").chmod(mode)
    assert (private(monkeypatch, tmp_path) is not None) is used


def test_nor_a_link_or_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (tmp_path / "cache" / "numba").symlink_to(tmp_path / "elsewhere")
    assert private(monkeypatch, tmp_path) is None
    (tmp_path / "cache" / "numba").unlink()
    (tmp_path / "cache" / "numba").touch()
    assert private(monkeypatch, tmp_path) is None


def test_nor_one_of_another_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "cache" / "numba").mkdir(parents=True, mode=0o700)
    own = os.geteuid()
    monkeypatch.setattr(cachefolder.os, "geteuid", lambda: own + 1)
    assert private(monkeypatch, tmp_path) is None


def test_a_user_without_a_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("WEIGHBRIDGE_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "expanduser", lambda self: (_ for _ in ()).throw(RuntimeError("no home")))
    assert cachefolder.cache_root() is None
    monkeypatch.setenv("XDG_CACHE_HOME", "relative/path")
    assert cachefolder.cache_root() is None
    monkeypatch.setattr(cachefolder.tempfile, "gettempdir", lambda: str(tmp_path))
    assert cachefolder.private_folder("numba") == tmp_path / f"weighbridge-{os.geteuid()}" / "numba"
