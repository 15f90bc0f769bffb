"""Bytes of files by position: exactly what was asked for, of a file that is still what it was."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weighbridge.checkpoint.identity import Identity, require_same
from weighbridge.checkpoint.store import Folder, OverlayStore, Store
from weighbridge.errors import WeighbridgeError

CONTENT = bytes(range(256)) * 40


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("store")
    (root / "a").write_bytes(CONTENT)
    (root / "b").write_bytes(CONTENT[::-1])
    return root


def filled(store: Store, file: str, spans: list[tuple[int, int]]) -> list[bytes]:
    buffers = [bytearray(length) for _, length in spans]
    store.fill(file, [(offset, memoryview(buffer)) for (offset, _), buffer in zip(spans, buffers, strict=True)])
    return [bytes(buffer) for buffer in buffers]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(CONTENT)), st.integers(0, 5000)), max_size=6))
def test_spans_are_what_slices_are(folder: Path, spans: list[tuple[int, int]]) -> None:
    spans = [(offset, min(length, len(CONTENT) - offset)) for offset, length in spans]
    for store in (Folder(folder), OverlayStore(Folder(folder), {"a": CONTENT}), OverlayStore(Folder(folder), {"b": CONTENT})):
        assert filled(store, "a", spans) == [CONTENT[offset : offset + length] for offset, length in spans]


@pytest.mark.parametrize("over", [False, True])
def test_a_span_behind_the_end_is_refused(over: bool, folder: Path) -> None:
    store: Store = OverlayStore(Folder(folder), {"a": CONTENT}) if over else Folder(folder)
    with pytest.raises(WeighbridgeError, match="gave 0 of 1 bytes" if over else "ends 1 bytes before"):
        filled(store, "a", [(len(CONTENT), 1)])


@pytest.mark.parametrize("change", ["longer", "shorter", "time", "gone"])
@pytest.mark.parametrize("listed", [True, False])
def test_a_file_that_is_not_what_it_was(change: str, listed: bool, tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(CONTENT)
    os.utime(path, ns=(10**18, 10**18))
    store = Folder(tmp_path)
    if listed:
        assert store.files() == {"a": len(CONTENT)}
    else:
        assert store.read("a", 0, 4) == CONTENT[:4]  # the first reading counts where nobody listed
    if change == "gone":
        path.unlink()
    else:
        if change != "time":
            path.write_bytes(CONTENT + b"x" if change == "longer" else CONTENT[:5000])
        os.utime(path, ns=(10**18, 10**18 + (change == "time")))
    for call in (lambda: store.read("a", 0, 4), lambda: filled(store, "a", [(0, 4)])):
        says = "cannot be read: No such file" if change == "gone" else "changed since it was opened"
        with pytest.raises(WeighbridgeError, match=f"a: {says}") as caught:
            call()
        assert caught.value.exit_code == 2 and (change == "gone" or caught.value.first.hint)
    if change != "gone":
        assert Folder(tmp_path).read("a", 0, 4) == CONTENT[:4]


def test_nothing_stays_open(folder: Path) -> None:
    store, before = Folder(folder), len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        store.read("a", 0, 10)
        filled(store, "b", [(0, 10), (100, 10)])
    assert len(os.listdir("/proc/self/fd")) == before


def test_the_inode_counts_for_what_is_held() -> None:
    then, now = Identity(5, 6, 7), Identity(5, 6, 8)
    require_same("f", then, now)
    with pytest.raises(WeighbridgeError, match="another file has taken its place"):
        require_same("f", then, now, held=True)


@pytest.mark.parametrize("time", [-(1 << 62), 1 << 62, 0])
def test_any_time_can_be_said(time: int) -> None:
    with pytest.raises(WeighbridgeError, match="last written at"):
        require_same("f", Identity(1, 5, 1), Identity(1, time, 1))
