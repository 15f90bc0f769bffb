"""A finished folder is believed only where its files, its manifest and its source are what they were."""

from __future__ import annotations

import json
import os
import random
import shutil
import time

import pytest

import weighbridge.api as wb
from tests.plan.tools import all_bytes, convert, load_json
from weighbridge.cli import main
from weighbridge.errors import WeighbridgeError
from weighbridge.testing.safetensors_writer import read_header
from weighbridge.testing.tiny import write_tiny

SMALL = {"hidden": 128, "inter": 128, "heads": 2, "kv_heads": 1, "head_dim": 64, "experts": 2, "layers": 2, "vocab": 128, "shards": 2}
WAYS = {"hf-fp8": ("hf-fp8", {}), "hf-bf16": ("hf-bf16", {}), "neuron": ("neuron", {}), "shards": ("neuron", {"shards": True, "tp": 2})}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("WEIGHBRIDGE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def source(tmp_path):
    write_tiny(tmp_path / "src", **SMALL)
    (tmp_path / "src" / "README.md").write_text("A model.\n")
    (tmp_path / "src" / "tokenizer.json").write_text("{}")
    return tmp_path / "src"


def flip_signs(folder) -> None:
    """Other weights under equal headers, as a fine-tune has them."""
    for path in folder.glob("*.safetensors"):
        data = bytearray(path.read_bytes())
        header, start = read_header(path)
        for name, entry in header.items():
            if name != "__metadata__" and entry["dtype"] == "F8_E4M3":
                begin, end = (start + at for at in entry["data_offsets"])
                data[begin:end] = bytes(byte ^ 0x80 for byte in data[begin:end])
        path.write_bytes(data)


def refused(source, out, layout="neuron", **options) -> WeighbridgeError:
    before = all_bytes(out)
    with pytest.raises(WeighbridgeError) as caught:
        wb.open(source).convert(out, layout, **options)
    assert all_bytes(out) == before
    return caught.value


@pytest.mark.parametrize("known", [True, False])
def test_other_weights_with_equal_headers_are_another_source(source, tmp_path, known, cache):
    """Whether the cache knows the source or not."""
    out = convert(source, tmp_path / "out", "neuron")
    if not known:
        shutil.rmtree(cache)
    flip_signs(source)
    error = refused(source, out)
    assert error.first.code == "source-changed" and error.exit_code == 2
    assert "model-0000" in error.first.where and str(out) in error.first.hint and "another folder" in error.first.hint


def test_other_weights_with_the_old_times_are_another_source(source, tmp_path, monkeypatch):
    """size, inode and mtime can be the same; ctime cannot be set."""
    for path in source.iterdir():
        os.utime(path, (1e9, 1e9))
    out = convert(source, tmp_path / "out", "neuron")
    monkeypatch.setattr("weighbridge.convert.looks.REST", 0)
    assert wb.open(source).convert(out, "neuron").already
    flip_signs(source)
    for path in source.iterdir():
        os.utime(path, (1e9, 1e9))
    assert refused(source, out).first.code == "source-changed"


@pytest.mark.parametrize("file", ["README.md", "tokenizer.json", "generation_config.json"])
def test_a_file_beside_the_weights_that_changed_is_another_source(source, tmp_path, file):
    out = convert(source, tmp_path / "out", "neuron")
    (source / file).write_text('{"other": 1}')
    error = refused(source, out)
    assert error.first.code == "source-changed" and file in error.first.where


def test_a_new_and_a_lost_file_beside_the_weights_are_another_source(source, tmp_path):
    out = convert(source, tmp_path / "out", "neuron")
    (source / "tokenizer_config.json").write_text("{}")
    assert "tokenizer_config.json" in refused(source, out).first.where
    (source / "tokenizer_config.json").unlink()
    (source / "README.md").unlink()
    assert "README.md" in refused(source, out).first.where


def test_a_source_that_was_copied_or_touched_is_the_same(source, tmp_path):
    out = convert(source, tmp_path / "out", "neuron")
    shutil.copytree(source, tmp_path / "copy")
    assert wb.open(tmp_path / "copy").convert(out, "neuron").already
    for path in source.iterdir():
        path.touch()
    assert wb.open(source).convert(out, "neuron").already


def test_a_quick_look_spares_the_contents(source, tmp_path, monkeypatch):
    """Once all files have been at rest, a finished folder costs no reading of weights."""
    out = convert(source, tmp_path / "out", "neuron")
    monkeypatch.setattr("weighbridge.convert.looks.REST", 0)
    time.sleep(0.02)
    wb.open(source).convert(out, "neuron")  # remembers the output at rest
    monkeypatch.setattr("weighbridge.convert.contents.hash_handle", lambda *_: pytest.fail("an output file was read"))
    monkeypatch.setattr("weighbridge.convert.origin.Origin.finish",
                        lambda self, files=(), progress=None: files and pytest.fail("the source was read"))
    assert wb.open(source).convert(out, "neuron").already


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("damage", ["gone", "cut", "longer", "flipped", "empty"])
def test_each_file_that_is_lost_is_named_and_made_anew(source, tmp_path, way, damage, capsys):
    layout, options = WAYS[way]
    out = convert(source, tmp_path / "out", layout, **options)
    wanted = all_bytes(out)
    for name in wanted:
        if name == "weighbridge.json":
            continue
        data = wanted[name]
        (out / name).unlink()
        if damage != "gone":
            (out / name).write_bytes({"cut": data[:-1], "longer": data + b" ", "empty": b"",
                                      "flipped": data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 4]) + data[len(data) // 2 + 1:]}[damage])
        assert main(["verify", str(out)]) == 3
        assert name in capsys.readouterr().out
        result = wb.open(source).convert(out, layout, **options)
        assert not result.already and list(result.again) == [name]
        assert result.document()["made_anew"] == [{"file": name, "why": result.again[name]}]
        assert all_bytes(out) == wanted and main(["verify", str(out)]) == 0
        capsys.readouterr()


@pytest.mark.parametrize("damage", [b"", b"\0" * 500, b'{"schema": "weighbridge.mani', None])
def test_a_manifest_that_a_crash_left_torn_is_made_anew(source, tmp_path, damage):
    out = convert(source, tmp_path / "out", "neuron")
    wanted = all_bytes(out)
    if damage is None:  # one number is another one: it is JSON, and its own hash does not fit
        damage = wanted["weighbridge.json"].replace(b'"converted_scales": ', b'"converted_scales": 1')
    (out / "weighbridge.json").write_bytes(damage)
    result = wb.open(source).convert(out, "neuron")
    assert not result.already and "weighbridge.json" in result.again and all_bytes(out) == wanted


def test_a_manifest_without_hashes_is_made_anew(source, tmp_path):
    """As versions before hashes wrote it."""
    out = convert(source, tmp_path / "out", "neuron")
    wanted, manifest = all_bytes(out), load_json(out / "weighbridge.json")
    for key in ("hashes", "seal"):
        del manifest[key]
    manifest["files"] = {name: {"bytes": record["bytes"]} for name, record in manifest["files"].items()}
    (out / "weighbridge.json").write_text(json.dumps(manifest))
    assert main(["verify", str(out)]) == 2
    assert not wb.open(source).convert(out, "neuron").already
    assert all_bytes(out) == wanted


@pytest.mark.parametrize("change", [{"more": {"bytes": 0, "hash": "0" * 32}}, {"config.json": None}])
def test_a_manifest_that_names_other_files_is_made_anew(source, tmp_path, change):
    """Whole by its own hash, and of the same plan: its list decides nothing that the plan does not know."""
    from weighbridge.convert.manifest import encode

    out = convert(source, tmp_path / "out", "neuron")
    wanted, manifest = all_bytes(out), load_json(out / "weighbridge.json")
    manifest["files"] = {name: record for name, record in (manifest["files"] | change).items() if record}
    (out / "weighbridge.json").write_bytes(encode({key: value for key, value in manifest.items() if key not in ("hashes", "seal")}))
    result = wb.open(source).convert(out, "neuron")
    assert not result.already and "weighbridge.json" in result.again and all_bytes(out) == wanted


@pytest.mark.parametrize("name", ["config.json", "model-rest.safetensors"])
def test_a_file_that_is_made_anew_must_be_the_one_that_was_lost(source, tmp_path, name):
    """Else the manifest would speak of other bytes: of another machine's, or of somebody's."""
    from weighbridge.convert.manifest import encode

    out = convert(source, tmp_path / "out", "neuron")
    manifest = load_json(out / "weighbridge.json")
    manifest["files"][name]["hash"] = "0" * 32
    (out / "weighbridge.json").write_bytes(encode({key: value for key, value in manifest.items() if key not in ("hashes", "seal")}))
    with pytest.raises(WeighbridgeError) as caught:
        wb.open(source).convert(out, "neuron")
    assert caught.value.first.code == "remade-differs" and caught.value.first.where.endswith(name)
    assert main(["verify", str(out)]) == 3


@pytest.mark.parametrize("text", ["{}", "[]", '{"name": "mine"}'])
def test_a_file_of_the_manifests_name_that_is_none_is_not_overwritten(source, tmp_path, text):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "weighbridge.json").write_text(text)
    assert refused(source, tmp_path / "out").first.code == "output-not-empty"


def test_a_torn_manifest_gives_no_right_to_files_of_another_name(source, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "weighbridge.json").touch()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    error = refused(source, tmp_path / "out")
    assert error.first.code == "in-the-way" and "thesis.txt" in error.first.where


def test_the_source_itself_is_no_output(source):
    (source / "weighbridge.json").touch()
    (source / "weighbridge.json").write_bytes(b"")
    before = all_bytes(source)
    with pytest.raises(WeighbridgeError):
        wb.open(source).convert(source, "hf-fp8")
    assert all_bytes(source) == before


@pytest.mark.parametrize("way", WAYS)
def test_verify_of_one_folder_finds_any_flipped_bit(source, tmp_path, way):
    """In headers, padding, codes, scales, configuration, tokenizer and the manifest itself."""
    from weighbridge.convert.contents import verify_folder

    layout, options = WAYS[way]
    out = convert(source, tmp_path / "out", layout, **options)
    assert verify_folder(out)["ok"]
    seed = random.randrange(1 << 30)
    print(f"seed {seed}")
    chance = random.Random(seed)
    files = sorted(name for name in all_bytes(out))
    for number in range(120):
        path = out / files[number % len(files)]
        data = path.read_bytes()
        place = chance.randrange(min(len(data), 3000) if number % 3 == 0 else len(data))
        path.write_bytes(data[:place] + bytes([data[place] ^ 1 << chance.randrange(8)]) + data[place + 1:])
        try:
            document = verify_folder(out)
            bad = [row["name"] for row in document["files"] if not row["ok"]]
            assert not document["ok"] and str(path.relative_to(out)) in bad, (path, place)
            assert len(bad) == 1 or path.name == "weighbridge.json", bad  # a flip in the manifest may change what it says of another file
        except WeighbridgeError as error:  # a manifest that cannot be read any more
            assert path.name == "weighbridge.json" and error.first.code == "manifest"
        path.write_bytes(data)


def test_verify_of_one_folder_as_json(source, tmp_path, capsys):
    out = convert(source, tmp_path / "out", "neuron")
    assert main(["verify", str(out), "--format", "json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == "weighbridge.verify-folder/1" and document["ok"]
    assert {row["name"] for row in document["files"]} == set(all_bytes(out))
    assert all(row == {"name": row["name"], "ok": True, "problem": None} for row in document["files"])
    (out / "config.json").unlink()
    shutil.copy(out / "model-rest.safetensors", out / "stray.safetensors")
    assert main(["verify", str(out), "--format", "json"]) == 3
    bad = {row["name"]: row["problem"] for row in json.loads(capsys.readouterr().out)["files"] if not row["ok"]}
    assert bad.keys() == {"config.json", "stray.safetensors"} and bad["config.json"] == "is missing"


def test_verify_of_what_has_no_manifest(source, tmp_path, capsys):
    for folder in (source, tmp_path / "nothing", tmp_path):
        assert main(["verify", str(folder), "--format", "json"]) == 2
        assert json.loads(capsys.readouterr().out)["error"]["code"] == "manifest"


NAMES = ["../src/README.md", "/etc/passwd", "a/../../b", "a//b", "./a", "", "a\0b", ".weighbridge/x", "weighbridge.json",
         "a\nb", "a" * 2000, "\x1b[31m", "..", "c:\\x"]
RECORD = {"bytes": 1, "hash": "0" * 32}
RECORDS = [{"bytes": -1, "hash": "0" * 32}, {"bytes": 1 << 80, "hash": "0" * 32}, {"bytes": 1e400, "hash": "0" * 32},
           {"bytes": "1", "hash": "0" * 32}, {"bytes": 1},
           {"bytes": 1, "hash": "0"}, {"bytes": 1, "hash": "g" * 32}, {"bytes": 1, "hash": None}, {"bytes": True, "hash": "0" * 32}, 1, None, [], "x"]


@pytest.mark.parametrize("change", [*({"files": {name: RECORD}} for name in NAMES), *({"files": {"a": record}} for record in RECORDS), {"files": []},
                                    {"files": None}, {"plan": 1}, {"hashes": {"name": "md5"}}, {"hashes": 1}, {"schema": 1}, {"source": None},
                                    {"source": {"files": []}}])
def test_a_hostile_manifest_is_refused_in_words(source, tmp_path, change, capsys):
    out = convert(source, tmp_path / "out", "hf-bf16")
    (out / "weighbridge.json").write_text(json.dumps(load_json(out / "weighbridge.json") | change))
    assert main(["verify", str(out), "--format", "json"]) == 2
    document = json.loads(capsys.readouterr().out)
    assert document["error"]["code"] == "manifest" and "internal" not in document["error"]["message"]


@pytest.mark.parametrize("kind", ["fifo", "folder", "link out", "socket"])
def test_verify_opens_nothing_but_plain_files_of_the_folder(source, tmp_path, kind):
    import socket

    from weighbridge.convert.contents import verify_folder

    out = convert(source, tmp_path / "out", "hf-bf16")
    path = out / "config.json"
    moved = path.rename(tmp_path / "config.json")
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "socket":
        socket.socket(socket.AF_UNIX).bind(str(path))
    else:
        path.symlink_to(moved)
    rows = {row["name"]: row for row in verify_folder(out)["files"]}
    assert not rows["config.json"]["ok"] and len([row for row in rows.values() if not row["ok"]]) == 1


def test_verify_of_a_hub_cache_follows_its_links(source, tmp_path):
    from weighbridge.convert.contents import verify_folder

    out = convert(source, tmp_path / "out", "neuron")
    snapshot, blobs = tmp_path / "models--a--b" / "snapshots" / "abc", tmp_path / "models--a--b" / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for number, path in enumerate(sorted(out.iterdir())):
        shutil.copy(path, blobs / str(number))
        (snapshot / path.name).symlink_to(f"../../blobs/{number}")
    assert verify_folder(snapshot)["ok"]
