"""Logical matrices out of rectangles, embeddings, and the routed experts of a layer."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from weighbridge.encoding import codec
from weighbridge.engine.rectangle import Rectangle
from weighbridge.engine import blas
from weighbridge.engine.linear import FEW, FEW_TURNED, Experts, Linear, threads
from weighbridge.errors import Usage, WeighbridgeError


def test_rectangles_of_any_kind_make_one_matrix(family, matrix, error_of) -> None:
    rng = np.random.default_rng(0)
    parts = [(130, 0, matrix(rng, (170, 70), turned=True)), (0, 0, matrix(rng, (130, 300), "BF16")), (130, 70, matrix(rng, (50, 230))),
             (180, 70, matrix(rng, (120, 230), block=(1, 128)))]
    linear = Linear(parts, (300, 300))
    assert linear.shape == (300, 300)
    assert linear.nbytes == sum(q.codes_RC.nbytes + (0 if q.scale_RbCb is None else q.scale_RbCb.nbytes) for _, _, q in parts)
    for vectors in (1, FEW_TURNED, FEW_TURNED + 1, FEW, FEW + 1, 50):
        x = rng.standard_normal((vectors, 300)).astype(np.float32)
        assert error_of(linear, x, linear(x)) < 1e-6


def test_a_cut_of_a_stored_stack_is_multiplied_where_it_lies(family, matrix, error_of) -> None:
    """Gate and up lie side by side in [in, 2 * out]; cutting and turning copies nothing."""
    rng = np.random.default_rng(1)
    stored = matrix(rng, (256, 768), block=(128, 128))
    for start in (0, 384, 100):
        q = stored.cut(0, start, 256, 384).T
        linear = Linear([(0, 0, q)], (384, 256))
        assert np.shares_memory(linear.parts[0][2].codes_RC, stored.codes_RC)
        for vectors in (2, 40):
            x = rng.standard_normal((vectors, 256)).astype(np.float32)
            assert error_of(linear, x, linear(x)) < 1e-6


def test_reference_is_the_decoded_matrix_in_float64() -> None:
    codes, scale = np.array([[0x38, 0xB8, 0x40]], np.uint8), np.array([[2.0]], np.float32)  # 1, -1, 2
    linear = Linear([(0, 0, Rectangle(codes, scale, "F8_E4M3", (128, 128)))], (1, 3))
    x = np.array([[1, 10, 100]], np.float32)
    assert linear.reference(x) == linear(x) == [[2 - 20 + 400]]


def test_rows_decode_an_embedding(matrix) -> None:
    rng = np.random.default_rng(2)
    parts = [(0, 0, matrix(rng, (100, 60), "BF16")), (100, 0, matrix(rng, (80, 60), turned=True, origin=(3, 5))),
             (0, 60, matrix(rng, (180, 40), "F32"))]
    linear = Linear(parts, (180, 100))
    whole = np.concatenate([np.concatenate([parts[0][2].decode(), parts[1][2].decode()]), parts[2][2].decode()], axis=1)
    ids = np.array([179, 0, 99, 100, 0])
    assert np.array_equal(linear.rows(ids), whole[ids])
    assert linear.rows(np.array([], np.int64)).shape == (0, 100)
    for wrong in (-1, 180):
        with pytest.raises(WeighbridgeError, match=f"{wrong}"):
            linear.rows([wrong])


def test_rows_know_both_readings(matrix) -> None:
    q = matrix(np.random.default_rng(3), (2, 4))
    q.codes_RC[0] = [0x78, 0x7E, 0x7F, 0xF8]
    assert np.isfinite(Linear([(0, 0, q)], (2, 4)).rows([0])).tolist() == [[True, True, False, True]]
    values = Linear([(0, 0, q)], (2, 4), reads="e4m3").rows([0])[0]
    assert values[0] == np.inf and np.isnan(values[1:3]).all() and values[3] == -np.inf


def test_out_is_filled(matrix) -> None:
    rng = np.random.default_rng(4)
    linear = Linear([(0, 0, matrix(rng, (64, 128)))], (64, 128))
    for vectors in (0, 1, 20):
        x = rng.standard_normal((vectors, 128)).astype(np.float32)
        for out in (np.full((vectors, 64), np.nan, np.float32), np.full((64, vectors), np.nan, np.float32).T, np.zeros((vectors, 64))):
            assert linear(x, out=out) is out
            assert np.array_equal(out, linear(x))


@pytest.mark.parametrize("parts, element", [
    ([(0, 0, 4, 4)], "0 rectangles hold the element [0, 4]"), ([(0, 0, 4, 8), (3, 0, 1, 1)], "2 rectangles hold the element [3, 0]"),
    ([(0, 0, 4, 4), (0, 5, 4, 3)], "0 rectangles hold the element [0, 4]"), ([(0, 0, 5, 8)], "leaves the matrix"),
    ([(-1, 0, 4, 8)], "leaves the matrix"),
    ([], "0 rectangles hold the element [0, 0]"),
], ids=str)
def test_rectangles_must_tile(matrix, parts, element) -> None:
    rng = np.random.default_rng(5)
    with pytest.raises(WeighbridgeError) as caught:
        Linear([(row, col, matrix(rng, (rows, cols))) for row, col, rows, cols in parts], (4, 8))
    assert element in str(caught.value)


def test_what_cannot_be_multiplied_is_refused(matrix) -> None:
    q = matrix(np.random.default_rng(6), (256, 256))
    with pytest.raises(WeighbridgeError, match="takes \\[T, 256\\]"):
        Linear([(0, 0, q)], (256, 256))(np.zeros((1, 255), np.float32))
    with pytest.raises(WeighbridgeError, match="the result is \\[1, 256\\]"):
        Linear([(0, 0, q)], (256, 256))(np.zeros((1, 256), np.float32), out=np.zeros((1, 255), np.float32))
    with pytest.raises(WeighbridgeError, match="needs scales \\[2, 2\\], there are \\[1, 2\\]"):
        Linear([(0, 0, Rectangle(q.codes_RC, q.scale_RbCb[:1], q.dtype, q.block))], (256, 256))
    with pytest.raises(WeighbridgeError, match="without scales"):
        Linear([(0, 0, Rectangle(q.codes_RC, None, q.dtype, q.block))], (256, 256))
    with pytest.raises(WeighbridgeError, match="I32"):
        Linear([(0, 0, Rectangle(np.zeros((2, 2), np.int32), None, "I32"))], (2, 2))
    with pytest.raises(WeighbridgeError, match="e5m2"):
        Linear([(0, 0, q)], (256, 256), reads="e5m2")


@pytest.mark.parametrize("vectors", [1, 32])
def test_no_matrix_is_ever_decoded_whole(matrix, vectors) -> None:
    rng = np.random.default_rng(7)
    q = matrix(rng, (128, 3072))
    codes = np.tile(q.codes_RC, (40, 1))  # 15.7 MB; as float32 63 MB
    for linear in (Linear([(0, 0, Rectangle(codes, np.tile(q.scale_RbCb, (40, 1)), q.dtype, q.block))], (5120, 3072)),
                   Linear([(0, 0, Rectangle(codes, np.tile(q.scale_RbCb, (40, 1)), q.dtype, q.block).T)], (3072, 5120))):
        x = rng.standard_normal((vectors, linear.shape[1])).astype(np.float32)
        linear(x)
        tracemalloc.start()
        linear(x)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 8 << 20


def make_experts(rng, matrix, count=6, hidden=192, inter=136, turned=False, **options) -> Experts:
    def kind(rows, cols):
        return [Linear([(0, 0, matrix(rng, (rows, cols), turned=turned, **options))], (rows, cols)) for _ in range(count)]

    return Experts(kind(inter, hidden), kind(inter, hidden), kind(hidden, inter))


def expected(experts: Experts, x, chosen, weights):
    out = np.zeros((len(x), experts.hidden))
    for t, k in np.ndindex(chosen.shape):
        e, row = chosen[t, k], x[t : t + 1]
        gate, up = (kind[e].reference(row).astype(np.float64) for kind in (experts.gate, experts.up))
        out[t] += weights[t, k] * experts.down[e].reference(gate / (1 + np.exp(-gate)) * up)[0].astype(np.float64)
    return out


@pytest.mark.parametrize("turned", [False, True], ids=["rows", "turned"])
@pytest.mark.parametrize("tokens", [1, 2, 5, 60])
def test_experts(family, matrix, tokens, turned) -> None:
    rng = np.random.default_rng(8)
    experts = make_experts(rng, matrix, turned=turned)
    x = rng.standard_normal((tokens, 192)).astype(np.float32)
    chosen = np.stack([rng.permutation(6)[:3] for _ in range(tokens)])
    weights = rng.random((tokens, 3)).astype(np.float32)
    y, exact = experts(x, chosen, weights), expected(experts, x, chosen, weights)
    assert y.shape == (tokens, 192) and y.dtype == np.float32
    assert np.abs(y - exact).max() < 1e-5 * np.abs(exact).max()
    assert experts.nbytes == sum(each.nbytes for each in (*experts.gate, *experts.up, *experts.down))


def test_experts_that_many_and_few_tokens_choose(matrix) -> None:
    rng = np.random.default_rng(9)
    experts = make_experts(rng, matrix)
    chosen = np.array([[0, 1 + t % 5] for t in range(FEW + 4)])
    x, weights = rng.standard_normal((len(chosen), 192)).astype(np.float32), rng.random((len(chosen), 2)).astype(np.float32)
    exact = expected(experts, x, chosen, weights)
    assert np.abs(experts(x, chosen, weights) - exact).max() < 1e-5 * np.abs(exact).max()


def test_experts_of_a_token_do_not_depend_on_threads_or_on_their_order(matrix, monkeypatch) -> None:
    rng = np.random.default_rng(10)
    experts = make_experts(rng, matrix)
    x, weights = rng.standard_normal((4, 192)).astype(np.float32), rng.random((4, 3)).astype(np.float32)
    chosen = np.stack([rng.permutation(6)[:3] for _ in range(4)])
    results = []
    for count in ("1", "2", "5"):
        monkeypatch.setenv("WEIGHBRIDGE_THREADS", count)
        results += [experts(x, chosen, weights), experts(x, chosen[:, ::-1], weights[:, ::-1])]
    assert all(np.array_equal(result, results[0]) for result in results)


def test_experts_with_parts_of_their_own(matrix) -> None:
    """One expert in two rectangles beside others in one."""
    rng = np.random.default_rng(11)
    experts = make_experts(rng, matrix, count=3)
    q = experts.gate[1].parts[0][2]
    halves = Linear([(0, 0, q.cut(0, 0, 136, 100)), (0, 100, q.cut(0, 100, 136, 92))], (136, 192))
    split = Experts([experts.gate[0], halves, experts.gate[2]], experts.up, experts.down)
    x, weights = rng.standard_normal((1, 192)).astype(np.float32), np.ones((1, 3), np.float32)
    chosen = np.array([[2, 0, 1]])
    exact = expected(experts, x, chosen, weights)
    assert np.abs(split(x, chosen, weights) - exact).max() < 1e-5 * np.abs(exact).max()


def test_experts_refuse_what_does_not_fit(matrix) -> None:
    rng = np.random.default_rng(12)
    experts = make_experts(rng, matrix)
    x, one = np.zeros((1, 192), np.float32), np.ones((1, 1), np.float32)
    for chosen in ([[6]], [[-1]], [[0], [1]]):
        with pytest.raises(WeighbridgeError, match="experts"):
            experts(x, np.array(chosen), one)
    with pytest.raises(WeighbridgeError, match="gelu"):
        experts(x, np.array([[0]]), one, activation="gelu")
    with pytest.raises(WeighbridgeError, match="6 gates, 6 ups and 5 downs"):
        Experts(experts.gate, experts.up, experts.down[:5])
    with pytest.raises(WeighbridgeError, match="must|gate of expert 0"):
        Experts(experts.down, experts.up, experts.down)


def test_codes_that_are_not_numbers_reach_only_tokens_that_use_them(family, matrix) -> None:
    rng = np.random.default_rng(13)
    experts = make_experts(rng, matrix)
    experts.gate[4].parts[0][2].codes_RC[5, 5] = 0x7F
    x = rng.standard_normal((2, 192)).astype(np.float32)
    y = experts(x, np.array([[0, 1], [4, 2]]), np.ones((2, 2), np.float32))
    assert np.isfinite(y[0]).all() and np.isnan(y[1]).all()


def test_threads(monkeypatch) -> None:
    monkeypatch.setenv("WEIGHBRIDGE_THREADS", "3")
    assert threads() == 3
    monkeypatch.setenv("WEIGHBRIDGE_THREADS", "none")
    with pytest.raises(Usage):
        threads()


def test_the_decoded_panel_is_the_specification(matrix) -> None:
    """Many vectors go through decoded panels: with a unit matrix these show themselves, bit for bit."""
    q = matrix(np.random.default_rng(14), (300, 64))
    got = Linear([(0, 0, q)], (300, 64))(np.eye(64, dtype=np.float32)).T
    assert np.array_equal(got, codec.decode(q.codes_RC, q.scale_RbCb, (128, 128)))


def test_the_blas_gets_its_threads_back(matrix) -> None:
    found = blas._functions()
    if found is None:
        pytest.skip("numpy's BLAS is no OpenBLAS")
    get, put = found
    before = get()
    try:
        put(2)
        inside = []
        with blas.single(), blas.single():
            inside.append(get())
        q = matrix(np.random.default_rng(15), (600, 64))
        Linear([(0, 0, q)], (600, 64))(np.ones((40, 64), np.float32))
        assert (inside, get()) == ([1], 2)
    finally:
        put(before)


def test_a_blas_that_cannot_be_told_is_used_as_it_is(matrix, error_of, monkeypatch) -> None:
    rng = np.random.default_rng(16)
    linear = Linear([(0, 0, matrix(rng, (600, 64)))], (600, 64))
    x = rng.standard_normal((40, 64)).astype(np.float32)
    monkeypatch.setattr(blas, "_functions", lambda: None)
    assert error_of(linear, x, linear(x)) < 1e-6
