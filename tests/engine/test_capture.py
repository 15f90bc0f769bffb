"""Captures: what is written is what `observe` gave; whatever is wrong in a folder is refused with words; foreign recordings."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import ml_dtypes
import numpy as np
import pytest

from weighbridge.engine.capture import GROUP, NAME, Capture, order, write_capture
from weighbridge.errors import Refused, Usage, WeighbridgeError
from weighbridge.testing.safetensors_writer import write_file

WIDTHS = {"embed": 8, "attn": 8, "router": 4, "chosen": 2, "experts": 8, "block": 8, "norm": 8, "logits": 16}
LAYERS = 9  # one more than a file holds


class FakeEngine:
    """Gives each stage values that hang on layer, position and token."""

    architecture = SimpleNamespace(routing=SimpleNamespace(score="sigmoid"))

    def session(self, capacity: int) -> FakeSession:
        return FakeSession(capacity)


class FakeSession:
    def __init__(self, capacity: int) -> None:
        self.position, self.capacity = 0, capacity

    def feed(self, ids, *, rows="last", observe=None):
        assert rows == "all" and self.position + len(ids) <= self.capacity
        names = ["embed", *(f"layers.{layer}.{stage}" for layer in range(LAYERS) for stage in ("attn", "router", "chosen", "experts", "block")), "norm", "logits"]
        reused = {}  # an engine may use its arrays again
        for name in names:
            array = expected(name, ids, self.position)
            buffer = reused.setdefault((array.shape, array.dtype.str), np.empty_like(array))
            buffer[:] = array
            observe(name, buffer)
        self.position += len(ids)
        return expected("logits", ids, self.position - len(ids))


def expected(name: str, ids, start: int) -> np.ndarray:
    width = WIDTHS[name.rsplit(".", 1)[-1]]
    place = order(name)[0] % 64 * 100 + order(name)[1]
    values = np.add.outer(np.asarray(ids, np.float64) / 7 + np.arange(start, start + len(ids)), np.arange(width)) + place
    return values.astype(np.int64) if name.endswith(".chosen") else values.astype(np.float32)


SOURCE = SimpleNamespace(checkpoint=SimpleNamespace(label="some/model", digest="abc", model_type="minimax_m2"), layout="hf-fp8")
SEQUENCES = [list(range(300)), [5, 6, 7]]


@pytest.fixture
def folder(tmp_path) -> Path:
    write_capture(tmp_path / "cap", FakeEngine(), SEQUENCES, source=SOURCE, numerics="neuron", decode=lambda i: f"<{i}>")
    return tmp_path / "cap"


def test_what_is_read_is_what_was_observed(folder):
    capture = Capture(folder)
    assert [each.ids for each in capture.sequences] == SEQUENCES and capture.sequences[1].tokens == ["<5>", "<6>", "<7>"]
    assert (capture.numerics, capture.source["digest"], capture.source["name"], capture.source["score"]) == ("neuron", "abc", "model", "sigmoid")
    assert len(capture.names) == 5 * LAYERS + 3 and all(NAME.fullmatch(name) for name in capture.names)
    for name in capture.names:
        whole = np.concatenate([expected(name, ids, 0) for ids in SEQUENCES])
        assert (capture.rows(name, 0, 303) == whole).all() and (capture.rows(name, 100, 302) == whole[100:302]).all()
        assert capture.rows(name, 0, 1).dtype == (np.int64 if name.endswith("chosen") else np.float32)


def test_files_hold_eight_layers_and_are_safetensors(folder):
    from safetensors.numpy import load_file

    files = sorted(path.name for path in folder.glob("*.safetensors"))
    assert GROUP == 8 and files == ["end.safetensors", "layers-0000-0007.safetensors", "layers-0008-0015.safetensors", "start.safetensors"]
    held = load_file(folder / "layers-0008-0015.safetensors")
    assert set(held) == {f"layers.8.{stage}" for stage in ("attn", "router", "chosen", "experts", "block")}
    assert (held["layers.8.attn"] == np.concatenate([expected("layers.8.attn", ids, 0) for ids in SEQUENCES])).all()


def test_nothing_to_run_and_a_used_folder_are_refused(folder):
    with pytest.raises(Usage, match="no token"):
        write_capture(folder / "x", FakeEngine(), [[]], source=SOURCE)
    with pytest.raises(WeighbridgeError, match="holds 5 files already"):
        write_capture(folder, FakeEngine(), [[1]], source=SOURCE)


def test_a_capture_that_broke_off_is_none(tmp_path):
    class Breaks(FakeSession):
        def feed(self, ids, **given):
            if self.position:
                raise KeyboardInterrupt
            return super().feed(ids, **given)

    engine = FakeEngine()
    engine.session = Breaks
    with pytest.raises(KeyboardInterrupt):
        write_capture(tmp_path / "cap", engine, SEQUENCES, source=SOURCE)
    assert not (tmp_path / "cap" / "capture.json").exists() and (tmp_path / "cap" / "start.safetensors").exists()


# ---- hostile folders

def changed(folder: Path, change) -> Path:
    path = folder / "capture.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))
    return folder


HOSTILE = {
    "schema": (lambda m: m.update(schema="weighbridge.plan/1"), "weighbridge.capture/1 is known"),
    "name": (lambda m: m["names"][0].update(name="../embed"), "no name of a stage"),
    "file above": (lambda m: m["names"][0].update(file="../start.safetensors"), "leads out of the folder"),
    "absolute file": (lambda m: m["names"][0].update(file="/etc/passwd"), "leads out of the folder"),
    "file in a folder": (lambda m: m["names"][0].update(file="a/b.safetensors"), "leads into another folder"),
    "missing file": (lambda m: m["names"][0].update(file="none.safetensors"), "not here"),
    "shape": (lambda m: m["names"][0].update(shape=[303, 9]), r"\[303, 8\] in start.safetensors, F32 \[303, 9\]"),
    "rows": (lambda m: m["sequences"][1]["ids"].pop(), "texts for 2 ids"),
    "fewer ids": (lambda m: (m["sequences"][1]["ids"].pop(), m["sequences"][1]["tokens"].pop()), r"\[302, width\] is needed"),
    "no ids": (lambda m: m.update(sequences=[]), "1 to 16,777,216 are needed"),
    "negative id": (lambda m: m["sequences"][1]["ids"].__setitem__(0, -1), "-1 is no token id"),
    "huge id": (lambda m: m["sequences"][1]["ids"].__setitem__(0, 1 << 40), "is no token id"),
    "text for ids": (lambda m: m["sequences"][1].update(ids="abc"), "is not of this form"),
    "names no list": (lambda m: m.update(names={}), "is not of this form"),
    "twice": (lambda m: m["names"].append(m["names"][0]), "listed twice"),
    "no stages": (lambda m: m.update(names=[]), "lists no stage"),
    "chosen as float": (lambda m: next(e for e in m["names"] if e["name"].endswith("chosen")).update(dtype="F32"), "I64 or I32 is needed"),
    "other dtype": (lambda m: m["names"][0].update(dtype="F8_E4M3"), "is needed"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_manifest_is_refused(case, folder):
    change, words = HOSTILE[case]
    with pytest.raises(Refused, match=words):
        Capture(changed(folder, change))


@pytest.mark.parametrize("content", [b"", b"{", b"[" * 100_000, b"null", b"\xff\xfe", b'{"schema": 1}'])
def test_what_is_no_manifest_is_refused(content, folder):
    (folder / "capture.json").write_bytes(content)
    with pytest.raises(Refused):
        Capture(folder)


def test_a_cut_file_is_refused(folder):
    path = folder / "layers-0000-0007.safetensors"
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(Refused, match="the file has"):
        Capture(folder)


# ---- recordings of others

def recording(folder: Path) -> dict[str, np.ndarray]:
    """Three positions: attention of eight padded head slots in two groups, three of each real; BF16 hidden states with a batch axis."""
    folder.mkdir()
    random = np.random.default_rng(0)
    heads = random.standard_normal((3, 2, 4, 5)).astype(np.float32)
    hidden = random.standard_normal((1, 3, 8)).astype(ml_dtypes.bfloat16)
    turned = random.standard_normal((8, 3)).astype(np.float32)
    write_file(folder / "a.safetensors", {"l0.heads": ("F32", [3, 40], heads.tobytes()), "l12.out": ("BF16", [1, 3, 8], hidden.tobytes()),
                                          "unused": ("U8", [1], b"x")})
    write_file(folder / "b.safetensors", {"first": ("F32", [8, 3], turned.tobytes())})
    return {"heads": heads, "hidden": hidden.astype(np.float32), "turned": turned}


MAPPING = {
    "sequences": [[1, 2], [3]],
    "names": {
        "l{l}.heads": {"name": "layers.{l}.attn", "steps": [{"reshape": [3, 2, 4, 5]}, {"take": [None, None, [0, 3], None]}, {"reshape": [3, 30]}]},
        "l{l}.out": "layers.{l}.block",
        "first": {"name": "embed", "steps": [{"transpose": [1, 0]}]},
    },
}


def mapped(tmp_path: Path, mapping: object) -> Path:
    path = tmp_path / "names.json"
    path.write_text(mapping if isinstance(mapping, str) else json.dumps(mapping))
    return path


def test_a_foreign_recording_is_read_by_its_mapping(tmp_path):
    values = recording(tmp_path / "rec")
    capture = Capture(tmp_path / "rec", mapped(tmp_path, MAPPING))
    assert capture.names == ["embed", "layers.0.attn", "layers.12.block"] and [each.ids for each in capture.sequences] == [[1, 2], [3]]
    assert (capture.rows("layers.0.attn", 0, 3) == values["heads"][:, :, :3].reshape(3, 30)).all()
    assert (capture.rows("layers.12.block", 1, 3) == values["hidden"][0, 1:]).all()
    assert (capture.rows("embed", 0, 3) == values["turned"].T).all()


def names(**changes) -> dict:
    return MAPPING | {"names": MAPPING["names"] | changes}


WRONG = {
    "not json": ("{", "is not of this form"),
    "surplus key": (MAPPING | {"steps": []}, "is not of this form"),
    "no stage": (names(first="embedding"), "is no stage"),
    "layer in one name": (names(first="layers.{l}.attn"), "0 times in the foreign name and 1 times"),
    "reshape": (names(first={"name": "embed", "steps": [{"reshape": [3, 9]}]}), "cannot be done to"),
    "huge reshape": (names(first={"name": "embed", "steps": [{"reshape": [1 << 62, 1 << 62]}]}), "cannot be done to"),
    "axes": (names(first={"name": "embed", "steps": [{"transpose": [0, 0]}]}), "cannot be done to"),
    "range": (names(first={"name": "embed", "steps": [{"take": [[0, 9], None]}]}), "is no range of 8"),
    "ranges": (names(first={"name": "embed", "steps": [{"take": [None]}]}), "1 ranges for 2 axes"),
    "two in one step": (names(first={"name": "embed", "steps": [{"reshape": [3, 8], "transpose": [1, 0]}]}), "2 of transpose, reshape, take"),
    "not turned": (names(first="embed"), r"\[3, width\] is needed"),
    "nothing named": (MAPPING | {"names": {"other": "embed"}}, "no tensor of the folder is named here; it holds first, l0.heads"),
    "two for one": (names(first={"name": "layers.12.block", "steps": [{"transpose": [1, 0]}]}), "a second tensor for this stage"),
    "dtype": (names(unused="embed"), "is U8"),
    "ids": (MAPPING | {"sequences": []}, "needed"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_mapping_is_refused(case, tmp_path):
    recording(tmp_path / "rec")
    mapping, words = WRONG[case]
    with pytest.raises(Refused, match=words):
        Capture(tmp_path / "rec", mapped(tmp_path, mapping))


def test_an_empty_folder_is_refused(tmp_path):
    (tmp_path / "rec").mkdir()
    with pytest.raises(Refused, match="no .safetensors file here"):
        Capture(tmp_path / "rec", mapped(tmp_path, MAPPING))


def test_a_recording_that_changes_is_named(folder):
    """A map of numpy's ended the process with SIGBUS when the file was cut off."""
    import os

    capture = Capture(folder)
    assert capture.rows("layers.8.attn", 0, 10).shape == (10, 8)
    os.truncate(folder / "layers-0008-0015.safetensors", 4096)
    with pytest.raises(WeighbridgeError, match="layers-0008-0015.safetensors: changed since it was opened: it had [0-9,]+ bytes, now it has 4,096"):
        capture.rows("layers.8.block", 200, 303)


def test_the_disk_gives_the_room_before_the_first_row(folder):
    """The files were sparse: on a full disk the writing of a page was a SIGBUS."""
    assert all(path.stat().st_blocks * 512 >= path.stat().st_size for path in folder.glob("*.safetensors"))
