"""The codec and both kernel families against torch on the CPU, bit for bit."""

import numpy as np
import pytest
import torch

from weighbridge.encoding import codec, kernels

E4M3FN = torch.float8_e4m3fn
ALL = np.arange(256, dtype=np.uint8)
DTYPES = {"e4m3fn": E4M3FN, "e4m3fnuz": torch.float8_e4m3fnuz, "e5m2": torch.float8_e5m2}
POWERS = [(-40, 7), (-14, -6), (-130, -118), (-149, -100), (90, 127)]


def codes_of(tensor):
    return tensor.view(torch.uint8).numpy()


def fp8(code):
    return torch.from_numpy(np.ascontiguousarray(code)).view(E4M3FN)


def bits(tensor):
    return tensor.contiguous().view({2: torch.int16, 4: torch.int32}[tensor.element_size()]).numpy()


def blocks(tensor, size=128):
    rows, columns = tensor.shape
    return tensor.view(rows // size, size, columns // size, size)


def assert_same_codes(ours, theirs):
    """Equal, or NaN on both sides: libraries differ in its payload and sign."""
    both_nan = ((ours & 0x7F) == 0x7F) & ((theirs & 0x7F) == 0x7F)
    assert ((ours == theirs) | both_nan).all()


@pytest.fixture(params=kernels.FAMILIES)
def kernel(request):
    if request.param == "vector" and not kernels.vector_is_possible():
        pytest.skip("this CPU has no AVX2")
    return lambda name: kernels.load(name, request.param)


@pytest.mark.parametrize("fmt", DTYPES)
def test_decode_table(fmt):
    theirs = torch.arange(256, dtype=torch.uint8).view(DTYPES[fmt]).float().numpy()
    assert np.array_equal(codec.decode_table(fmt), theirs, equal_nan=True)


@pytest.mark.parametrize("fmt", DTYPES)
def test_encode(fmt):
    """Saturation is torch's for e4m3fn; beyond their range the others differ, as codec.encode says."""
    rng = np.random.default_rng(1)
    value = np.concatenate([
        np.frombuffer(rng.bytes(4_000_000), np.float32),
        rng.standard_normal(100_000).astype(np.float32) * 100,
        np.array([np.inf, -np.inf, np.nan, 447, 448, 464, 465, 480, -1e30, 0.0, -0.0], np.float32),
    ])  # fmt: skip
    if fmt != "e4m3fn":
        value = value[np.abs(value) <= codec.FORMATS[fmt].max]
    ours, theirs = codec.encode(value, fmt), codes_of(torch.from_numpy(value).to(DTYPES[fmt]))
    assert_same_codes(ours, theirs)


def test_bf16():
    rng = np.random.default_rng(2)
    value = np.frombuffer(rng.bytes(4_000_000), np.float32)
    value = value[~np.isnan(value)]
    theirs = bits(torch.from_numpy(value).bfloat16()).view(np.uint16)
    assert (codec.to_bf16(value) == theirs).all()
    assert (codec.from_bf16(theirs) == torch.from_numpy(value).bfloat16().float().numpy()).all()


def test_halve_and_double():
    value = fp8(ALL).float()
    assert_same_codes(codec.halve(ALL), codes_of((value / 2).to(E4M3FN)))
    assert_same_codes(codec.DOUBLE, codes_of((value * 2).to(E4M3FN)))


def test_legacy_rescale():
    assert_same_codes(codec.legacy_rescale(ALL), codes_of((fp8(ALL).bfloat16() / (448.0 / 240.0)).to(E4M3FN)))
    scale = np.exp2(np.random.default_rng(3).uniform(-60, 60, 10_000)).astype(np.float32)
    assert (codec.legacy_scale(scale) == (torch.from_numpy(scale).float() * (448.0 / 240.0)).numpy()).all()


@pytest.mark.parametrize("powers", POWERS)
def test_decode(kernel, powers):
    rng = np.random.default_rng(4)
    code = rng.integers(0, 256, (512, 768), dtype=np.uint8)
    scale = np.exp2(rng.uniform(*powers, (4, 6))).astype(np.float32)
    value = (blocks(fp8(code).float()) * torch.from_numpy(scale)[:, None, :, None]).view(512, 768)
    finite = ~torch.isnan(value).numpy()
    where = (scale.ctypes.data, 6, 0, 0, 128, 128)
    for name, dtype, theirs in (("decode_f32", np.uint32, value), ("decode_bf16", np.uint16, value.bfloat16())):
        ours = np.empty((512, 768), dtype)
        kernel(name)(code.ctypes.data, 768, 512, 768, *where, ours.ctypes.data, 768)
        assert (ours == bits(theirs).view(dtype))[finite].all()
    assert np.array_equal(codec.decode(code, scale, (128, 128)), value.numpy(), equal_nan=True)


@pytest.mark.parametrize("fmax", [448.0, 240.0])
@pytest.mark.parametrize("power", [-120, -20, 0, 60])
def test_quantize(kernel, fmax, power):
    rng = np.random.default_rng(5)
    value = torch.from_numpy(np.ldexp(rng.standard_normal((256, 384)), power).astype(np.float32)).bfloat16()
    amax = blocks(value.float()).abs().amax(dim=(1, 3))
    scale = amax / fmax
    code = codes_of((blocks(value.float()) / scale[:, None, :, None]).to(E4M3FN).view(256, 384))
    ours, our_scale = codec.quantize(value.float().numpy(), (128, 128), fmax)
    assert (our_scale == scale.numpy()).all() and (ours == code).all()
    for name, source in (("quantize_bf16", value), ("quantize_f32", value.float())):
        fast, fast_scale = np.empty_like(ours), np.empty_like(our_scale)
        where = (fast.ctypes.data, 384, fast_scale.ctypes.data, 3)
        assert kernel(name)(source.data_ptr(), 384, 256, 384, 128, 128, fmax, *where) == 0
        assert (fast_scale == scale.numpy()).all() and (fast == code).all()


def test_quantize_per_row():
    value = torch.from_numpy(np.random.default_rng(6).standard_normal((40, 333)).astype(np.float32))
    scale = value.abs().amax(dim=1, keepdim=True) / 240.0
    ours, our_scale = codec.quantize(value.numpy(), (1, 333), 240.0)
    assert (our_scale == scale.numpy()).all() and (ours == codes_of((value / scale).to(E4M3FN))).all()
