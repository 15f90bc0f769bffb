"""Degrees, heads and skip lists of NxD Inference, against brute force over its rules."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weighbridge.runtimes.neuron import (
    Parallel,
    attention_problems,
    choose,
    expert_problems,
    kv_heads,
    kv_slots,
    matches,
    pairs,
    query_heads,
    query_slots,
    skip_list,
    tp_sizes,
)

M2 = {"hidden": 3072, "layers": 62, "heads": 48, "kv_heads": 8, "head_dim": 128, "inter": 1536, "experts": 256,
      "top_k": 8, "vocab": 200064}


@st.composite
def models(draw):
    kv = draw(st.integers(1, 8))
    return {"hidden": 64 * draw(st.integers(1, 12)), "heads": kv * draw(st.integers(1, 6)), "kv_heads": kv, "head_dim": 128,
            "inter": 128 * draw(st.integers(1, 8)), "experts": draw(st.sampled_from([1, 2, 6, 8, 12, 32])), "top_k": 1,
            "vocab": 64 * draw(st.integers(1, 8)), "layers": 1}


def loads(sizes: dict, tp: int) -> bool:
    """Would NxD take this TP for attention, embedding and head? Written from the rules R14 and R28."""
    kv, heads = sizes["kv_heads"], sizes["heads"]
    if sizes["vocab"] % tp or sizes["hidden"] % tp:
        return False
    replicated = kv < tp or kv % tp != 0
    if replicated and tp % kv:
        return False
    padded = next(n for n in range(heads, heads + tp) if n % tp == 0)
    if padded == heads:
        return True
    return kv != heads and (padded - heads) % kv == 0


def cuts(sizes: dict, tp: int, moe_tp: int, moe_ep: int, block: int) -> bool:
    """Would it cut the experts so? R28, R31 and R40."""
    return (moe_tp * moe_ep == tp and sizes["experts"] % moe_ep == 0 and sizes["inter"] % moe_tp == 0
            and (sizes["inter"] // moe_tp) % block == 0)


@settings(max_examples=60, deadline=None)
@given(models())
def test_sizes_are_those_of_a_search_over_everything(sizes):
    for tp in range(1, 65):
        assert (attention_problems(sizes, tp) == []) == loads(sizes, tp), tp
    wanted = [tp for tp in range(1, 65) if loads(sizes, tp)
              and any(cuts(sizes, tp, m, e, 128) for m in range(1, tp + 1) for e in range(1, tp + 1))]
    assert tp_sizes(sizes, 128) == wanted


@given(models(), st.sampled_from([1, 2, 4, 6, 8, 12, 16, 64]))
def test_pairs_are_those_of_a_search(sizes, tp):
    wanted = {(m, e) for m in range(1, tp + 1) for e in range(1, tp + 1) if cuts(sizes, tp, m, e, 128)}
    assert set(pairs(sizes, tp, 128)) == wanted


@settings(max_examples=60, deadline=None)
@given(models())
def test_what_is_chosen_works(sizes):
    """Left alone, `choose` finds degrees without a problem wherever there are any."""
    parallel, problems = choose(sizes, 128)
    if tp_sizes(sizes, 128):
        assert problems == []
        assert loads(sizes, parallel.tp) and cuts(sizes, parallel.tp, parallel.moe_tp, parallel.moe_ep, 128)


@settings(max_examples=100, deadline=None)
@given(models(), st.integers(1, 64))
def test_every_tp_that_a_hint_names_works(sizes, tp):
    problems = attention_problems(sizes, tp)
    for problem in problems:
        for word in problem.hint.partition(": ")[2].split(", "):
            if word.isdigit():
                assert choose(sizes, 128, int(word))[1] == [], (problem.hint, word)


@given(models(), st.integers(1, 16), st.integers(1, 16), st.sampled_from([2, 4, 8, 16]))
def test_every_pair_that_a_hint_names_works(sizes, moe_tp, moe_ep, tp):
    for problem in expert_problems(sizes, Parallel(tp, moe_tp, moe_ep, 0), 128):
        for pair in problem.hint.partition(": ")[2].split(", "):
            if " x " in pair:
                m, e = (int(n) for n in pair.split(" x "))
                assert cuts(sizes, tp, m, e, 128), problem.hint


@pytest.mark.parametrize("tp, query, key", [(64, 64, 64), (32, 64, 32), (16, 48, 16), (8, 48, 8)])
def test_heads_of_the_published_model(tp, query, key):
    assert (query_heads(M2, tp), kv_heads(M2, tp)) == (query, key)
    assert attention_problems(M2, tp) == []


def test_slots_of_the_published_model_at_64():
    """Real heads sit in slots 8g + j, j < 6; rank r gets key/value head r // 8."""
    slots = query_slots(M2, 64)
    assert [s for s in slots if s is not None] == list(range(48))
    assert [i for i, s in enumerate(slots) if s is not None] == [8 * g + j for g in range(8) for j in range(6)]
    assert kv_slots(M2, 64) == [r // 8 for r in range(64)]


@given(models(), st.integers(1, 64))
def test_each_query_head_meets_its_own_key_head(sizes, tp):
    """On every rank the query heads and the key heads that lie there belong together."""
    if not loads(sizes, tp):
        return
    query, key, group = query_slots(sizes, tp), kv_slots(sizes, tp), sizes["heads"] // sizes["kv_heads"]
    by_rank = np.array_split(np.arange(len(query)), tp)
    keys_by_rank = np.array_split(np.arange(len(key)), tp)
    for mine, keys in zip(by_rank, keys_by_rank, strict=True):
        held = {key[k] for k in keys}
        assert {query[q] // group for q in mine if query[q] is not None} <= held


def test_the_published_model_gets_whole_experts_and_a_batch():
    parallel, problems = choose(M2, 128)
    assert (parallel, problems) == (Parallel(64, 1, 64, 32), [])


CANDIDATES = [f"layers.{n}.{m}" for n in (0, 1, 10) for m in (
    "self_attn.qkv_proj.q_proj", "self_attn.qkv_proj.k_proj", "self_attn.qkv_proj.v_proj", "self_attn.o_proj.o_proj",
    "block_sparse_moe.expert_mlps.mlp_op.gate_up_proj", "block_sparse_moe.expert_mlps.mlp_op.down_proj")] + ["lm_head"]


@given(st.sets(st.sampled_from(CANDIDATES)))
def test_a_skip_list_hits_what_is_not_fp8(fp8):
    """Whatever is FP8, substring matching finds exactly the rest, unless a whole path lies in another one."""
    entries = skip_list({m: m in fp8 for m in CANDIDATES})
    hit = {m for m in CANDIDATES if any(matches(e, m) for e in entries)}
    assert hit == set(CANDIDATES) - fp8
