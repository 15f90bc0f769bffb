"""What cannot be read is never called another weight: equal bytes are equal, different bytes are no verdict (exit 2)."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

import weighbridge as wb
from tests.failures import quantized as q
from tests.plan.forms import FORMS, write
from tests.verify.tools import span, spans
from weighbridge.cli import main
from weighbridge.errors import Problem, Refused, folded
from weighbridge.testing.safetensors_writer import write_file
from weighbridge.testing.tiny import write_tiny


@pytest.fixture(params=FORMS)
def form(request, tmp_path):
    return write(tmp_path / "src", request.param)


def unread(folder, count: int = 14):
    """A sound checkpoint with codes that no scheme knows: I16 under BF16 scales, in `count` weights."""
    made, _, _ = FORMS["int8"]
    tensors, config = made()
    names = [name for name, (dtype, _) in tensors.items() if dtype == "I8"][:count]
    return q.written(lambda: (tensors | {name: ("I16", tensors[name][1]) for name in names}, config))(folder)


def test_published_forms_are_compared_by_value(form):
    """What a scheme explains is read: a copy is identical, value for value."""
    found = wb.open(form).verify(form)
    assert found["ok"] and found["how"] == "values" and found["grades"]["identical"] == found["weights"]


def test_other_codes_are_other_values(form, tmp_path):
    """A finding (exit 3) that names the weight and its two values; not exit 2, which would be no verdict."""
    copy = shutil.copytree(form, tmp_path / "copy")
    tensor = max((s for s in spans(copy) if s.dtype in ("U8", "I32", "I8", "F8_E4M3")), key=lambda s: s.size)
    tensor.write(bytes([tensor.bytes()[0] ^ 1]))
    scale = [s for s in spans(copy) if s.name.rpartition(".")[0] == tensor.name.rpartition(".")[0] and "scale" in s.name]
    assert scale
    found = wb.open(form).verify(copy)
    assert not found["ok"] and found["how"] == "values" and found["grades"]["wrong"] == 1


def test_what_no_scheme_knows_is_compared_by_bytes(tmp_path):
    folder = unread(tmp_path / "src")
    found = wb.open(folder).verify(folder)
    assert found["ok"] and found["how"] == "bytes" and found["grades"]["identical"] == len(spans(folder))


def test_other_bytes_are_exit_2_with_the_reason(tmp_path, capsys):
    folder = unread(tmp_path / "src")
    copy = shutil.copytree(folder, tmp_path / "copy")
    tensor = max(spans(copy), key=lambda s: s.size)
    tensor.write(bytes([tensor.bytes()[0] ^ 1]))
    assert main(["verify", str(folder), str(copy), "--format", "json"]) == 2
    said = json.loads(capsys.readouterr().out)
    assert said["error"]["code"] == "encoding" and "no scheme is known for weight I16" in said["error"]["message"]
    assert said["problems"][-1]["code"] == "bytes-differ"
    assert f"the bytes of 1 of {len(spans(folder))} tensors differ" in said["problems"][-1]["message"] and tensor.name in said["problems"][-1]["where"]


@pytest.mark.parametrize("layout", ["hf-fp8", "hf-bf16"])
def test_convert_and_verify_refuse_with_the_same_words(tmp_path, capsys, layout):
    """Not `missing`, no `download again`, and no advice that would throw scales away. Weights with one fault are one sentence."""
    folder = unread(tmp_path / "src")
    with pytest.raises(Refused) as converted:
        wb.open(folder).convert(tmp_path / "out", layout)
    with pytest.raises(Refused) as verified:
        wb.open(write_tiny(tmp_path / "other")).verify(folder)
    assert set(converted.value.problems) <= set(verified.value.problems)
    assert {p.code for p in converted.value.problems} == {"encoding"}
    assert main(["convert", str(folder), str(tmp_path / "out"), "--to", layout]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "download" not in said and "--allow" not in said and "missing" not in said and not (tmp_path / "out").exists()


@pytest.mark.parametrize("count", [1, 8, 9, 43_852])
def test_problems_of_one_kind_are_one_sentence(count):
    listed = [Problem("encoding", "no scheme is known for I16 [2, 2]", f"a.safetensors: w{n}", "hint") for n in range(count)]
    other = Problem("encoding", "no scheme is known for I16 [4, 4]", "a.safetensors: x", "hint")
    found = folded([*listed, other])
    if count <= 8:
        assert found == [*listed, other]
    else:
        assert found[0].message == f"{count:,} of one kind, each: no scheme is known for I16 [2, 2]" and found[1:] == [other]
        assert found[0].where == f"a.safetensors: w0; a.safetensors: w1; a.safetensors: w2 and {count - 3:,} more"


def test_a_weight_that_is_really_missing_is_said_too(tmp_path):
    folder = unread(tmp_path / "src", 1)
    file = next(folder.glob("*.safetensors"))
    tensors = {s.name: (s.dtype, s.shape, s.bytes()) for s in spans(folder) if s.name != "model.norm.weight"}
    write_file(file, tensors)
    (folder / "model.safetensors.index.json").unlink(missing_ok=True)
    with pytest.raises(Refused) as refused:
        wb.open(folder).convert(tmp_path / "out", "hf-bf16")
    assert sorted((p.code, p.where.rpartition(": ")[2]) for p in refused.value.problems) == [
        ("encoding", next(s.name for s in spans(folder) if s.dtype == "I16")), ("missing-tensor", "model.norm.weight")]


def test_an_unknown_family_is_compared_by_value(tmp_path):
    """Its weights are what its files have: a flipped bit is a finding with its place."""
    folder = write_tiny(tmp_path / "src", config={"model_type": "nobody_knows"})
    copy = shutil.copytree(folder, tmp_path / "copy")
    found = wb.open(folder).verify(copy)
    assert found["ok"] and found["how"] == "values"
    tensor = spans(copy)[0]
    with tensor.flipped(0, 0):
        found = wb.open(folder).verify(copy)
    assert not found["ok"] and found["grades"]["wrong"] == 1


@pytest.mark.parametrize("dtype,width", [("I8", 1), ("I32", 4), ("U8", 1), ("BOOL", 1)])
def test_values_without_a_scale_in_a_type_that_means_nothing(tmp_path, dtype, width):
    """No `KeyError`: the type is named, and equal bytes are still equal."""
    folder = write_tiny(tmp_path / "src", shards=1)
    file = next(folder.glob("*.safetensors"))
    tensors = {s.name: (s.dtype, s.shape, s.bytes()) for s in spans(folder)}
    name = "model.layers.0.self_attn.q_norm.weight"
    shape = tensors[name][1]
    write_file(file, tensors | {name: (dtype, shape, bytes(width * shape[0]))})
    copy = shutil.copytree(folder, tmp_path / "copy")
    assert wb.open(folder).verify(copy)["how"] == "bytes"
    with span(copy, name).flipped(0, 0), pytest.raises(Refused) as refused:
        wb.open(folder).verify(copy)
    assert dtype in refused.value.first.message and "q_norm" in refused.value.first.where


def test_the_last_digit_of_float64_counts(tmp_path):
    folder = write_tiny(tmp_path / "src", shards=1)
    file = next(folder.glob("*.safetensors"))
    tensors = {s.name: (s.dtype, s.shape, s.bytes()) for s in spans(folder)}
    name = "model.layers.0.self_attn.q_norm.weight"
    write_file(file, tensors | {name: ("F64", tensors[name][1], np.linspace(1, 2, tensors[name][1][0]).tobytes())})
    copy = shutil.copytree(folder, tmp_path / "copy")
    assert wb.open(folder).verify(copy)["ok"]
    with span(copy, name).flipped(16, 0):
        found = wb.open(folder).verify(copy)
    assert not found["ok"] and found["grades"]["wrong"] == 1 and "column 2" in found["worst"]["first"]


@pytest.mark.parametrize("dtype,width", [("I8", 1), ("I32", 4), ("I64", 8), ("U8", 1), ("BOOL", 1)])
def test_integers_of_an_unknown_family_are_compared(tmp_path, dtype, width):
    """Buffers of an unknown model: counters, masks. Equal bytes are the same, other bytes are not."""
    folder = write_tiny(tmp_path / "src", shards=1, config={"model_type": "nobody_knows"})
    file = next(folder.glob("*.safetensors"))
    tensors = {s.name: (s.dtype, s.shape, s.bytes()) for s in spans(folder)}
    write_file(file, tensors | {"model.counts": (dtype, (3, 4), bytes(12 * width))})
    (folder / "model.safetensors.index.json").unlink(missing_ok=True)
    copy = shutil.copytree(folder, tmp_path / "copy")
    assert wb.open(folder).verify(copy)["ok"]
    with span(copy, "model.counts").flipped(0, 0):
        found = wb.open(folder).verify(copy)
    assert not found["ok"] and found["beside"]["wrong"][0]["name"] == "model.counts"
    wb.open(folder).convert(tmp_path / "out", "hf-bf16")
    assert span(tmp_path / "out", "model.counts").dtype == dtype and wb.open(folder).verify(tmp_path / "out")["ok"]


def test_tensors_that_no_weight_explains_are_compared_where_both_have_them(tmp_path):
    """A draft layer, a tower: A against A is the same; a byte that differs is not, nor is a side that lacks it."""
    folder = write_tiny(tmp_path / "src", shards=1)
    file = next(folder.glob("*.safetensors"))
    tensors = {s.name: (s.dtype, s.shape, s.bytes()) for s in spans(folder)}
    write_file(file, tensors | {"model.draft.weight": ("I8", (3, 5), bytes(15))})
    (folder / "model.safetensors.index.json").unlink()
    copy = shutil.copytree(folder, tmp_path / "copy")
    found = wb.open(folder).verify(copy)
    assert found["ok"] and found["how"] == "values" and found["beside"]["bytes"] == 1 and not found["surplus"]
    with span(copy, "model.draft.weight").flipped(7, 2):
        found = wb.open(folder).verify(copy)
    assert not found["ok"] and found["beside"]["wrong"][0]["first"].startswith("byte 7 differs")
    write_file(copy / file.name, tensors)
    assert wb.open(folder).verify(copy)["surplus"] == wb.open(copy).verify(folder)["surplus"] == [f"{file.name}: model.draft.weight"]


def test_a_config_of_another_model_keeps_its_own_words(tmp_path):
    """Sound block FP8 under a config with another width: the shapes disagree, and the form is not to blame."""
    folder = write_tiny(tmp_path / "src", config={"num_attention_heads": 4})
    with pytest.raises(Refused) as refused:
        wb.open(folder).convert(tmp_path / "out", "hf-bf16")
    assert {p.code for p in refused.value.problems} == {"shape"}


def test_a_draft_layer_in_fp8_stays_surplus(tmp_path):
    folder = write_tiny(tmp_path / "src", shards=1)
    file = next(folder.glob("*.safetensors"))
    tensors = {s.name: (s.dtype, s.shape, s.bytes()) for s in spans(folder)}
    draft = {f"model.layers.9.self_attn.q_proj.{leaf}": tensors[f"model.layers.0.self_attn.q_proj.{leaf}"] for leaf in ("weight", "weight_scale_inv")}
    write_file(file, tensors | draft)
    (folder / "model.safetensors.index.json").unlink()
    with pytest.raises(Refused) as refused:
        wb.open(folder).convert(tmp_path / "out", "hf-bf16")
    assert {p.code for p in refused.value.problems} == {"surplus-tensor"}
    assert wb.open(folder).convert(tmp_path / "out", "hf-bf16", allow=("surplus-tensor",)).document()["complete"]
    found = wb.open(folder).verify(folder)
    assert found["ok"] and found["beside"]["bytes"] == 2


def test_real_values_with_a_scale_beside_them_are_no_verdict(tmp_path):
    """Decoded, or not? Against itself the same; against the sound one exit 2 with the question."""
    folder = write_tiny(tmp_path / "src", shards=1)
    bad = shutil.copytree(folder, tmp_path / "bad")
    file = next(bad.glob("*.safetensors"))
    name = "model.layers.0.self_attn.q_proj.weight"
    tensors = {s.name: (s.dtype, s.shape, s.bytes()) for s in spans(bad)}
    _, shape, data = tensors[name]
    write_file(file, tensors | {name: ("BF16", shape, data + data)})
    assert wb.open(bad).verify(bad)["how"] == "bytes"
    with pytest.raises(Refused) as refused:
        wb.open(folder).verify(bad)
    assert refused.value.first.code == "scale-beside-float"
