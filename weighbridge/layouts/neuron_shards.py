"""`neuron-shards`: the per-rank files that NxD writes as `weights/tp{rank}_sharded_checkpoint.safetensors`.

Names are those of the traced modules. Heads are padded with zeros between their groups, key/value heads
repeated, experts cut by number (EP) and by width (TP, gate and up apart), and what NxD casts to bfloat16
at load (router and its bias) is bfloat16 here. Stored keys carry `tp{rank}/` in front, since every file
has the same names. Source: NxD trace/trace.py `shard_children`, docs/neuron.md "Shards".
"""

from __future__ import annotations

from weighbridge.formats.scheme import Encoding, plain
from weighbridge.errors import Problem
from weighbridge.layouts import neuron
from weighbridge.layouts.options import Options
from weighbridge.layouts.placement import Placement, Stored, whole
from weighbridge.models.inventory import Inventory
from weighbridge.runtimes import neuron as reader

BF16 = plain("BF16")


def requires(inventory: Inventory, options: Options) -> list[Problem]:
    """What the file stage needs, and whole blocks of o_proj on every rank."""
    problems = neuron.requires(inventory, options)
    if problems or options.attention != "exact":
        return problems
    sizes, tp = inventory.sizes, neuron.parallelism(inventory, options)[0].tp
    width, block = reader.query_heads(sizes, tp) * sizes["head_dim"] // tp, options.block[1]
    if width % block:
        problems.append(Problem("block-grid", f"o_proj has {width} columns on each of {tp} ranks, the block is {block}", "o_proj: columns",
                                "use --attention row or published, or a smaller --tp"))
    return problems


def stored(inventory: Inventory, options: Options) -> list[Stored]:
    """All tensors of all ranks. Refuses every family but MiniMax-M2."""
    neuron.refuse_other_families(inventory)
    parallel = neuron.parallelism(inventory, options)[0]
    cutter = _Cutter(inventory, options, parallel)
    return [tensor for rank in range(parallel.tp) for tensor in cutter.rank(rank)]


class _Cutter:
    """Places every weight as the ranks see it, once, and cuts one rank after the other."""

    def __init__(self, inventory: Inventory, options: Options, parallel: reader.Parallel) -> None:
        self.inventory, self.options, self.parallel = inventory, options, parallel
        self.sizes = inventory.sizes
        self.query = reader.query_slots(self.sizes, parallel.tp)
        self.kv = reader.kv_slots(self.sizes, parallel.tp)
        head = self.sizes["head_dim"]
        self.spread: dict[str, Placement] = {}
        for layer in range(self.sizes["layers"]):
            for weight, axis, slots in (("q", 0, self.query), ("k", 0, self.kv), ("v", 0, self.kv), ("o", 1, self.query),
                                        ("q_norm", 1, self.query), ("k_norm", 1, self.kv)):
                name = f"layers.{layer}.attn.{weight}"
                self.spread[name] = whole(inventory[name]).spread(axis, head, slots)

    def rank(self, rank: int) -> list[Stored]:
        inventory, tp = self.inventory, self.parallel.tp
        out = [
            self._one(rank, "embed_tokens", whole(inventory["embed"]).cut(1, rank, tp), BF16),
            self._one(rank, "norm", whole(inventory["norm"]), BF16),
            self._one(rank, "lm_head", whole(inventory["head"]).cut(0, rank, tp), BF16),
            self._number(rank, "rank_util.rank", (rank,)),
        ]
        for layer in range(self.sizes["layers"]):
            out += self._attention(rank, layer) + self._moe(rank, layer)
        return out

    def _attention(self, rank: int, layer: int) -> list[Stored]:
        name, tp = f"layers.{layer}.", self.parallel.tp
        out = [
            self._one(rank, f"{name}input_layernorm", whole(self.inventory[f"{name}input_norm"]), BF16),
            self._one(rank, f"{name}post_attention_layernorm", whole(self.inventory[f"{name}post_norm"]), BF16),
            self._one(rank, f"{name}self_attn.q_norm", self.spread[f"{name}attn.q_norm"], BF16),
            self._one(rank, f"{name}self_attn.k_norm", self.spread[f"{name}attn.k_norm"], BF16),
            self._number(rank, f"{name}self_attn.rank_util.rank", (rank,)),
        ]
        for projection in "qkvo":
            placed = self.spread[f"{name}attn.{projection}"].cut(1 if projection == "o" else 0, rank, tp)
            module = "o_proj.o_proj" if projection == "o" else f"qkv_proj.{projection}_proj"
            encoding = neuron.attention_encoding(self.options, projection, placed.cols)
            if projection == "o" and encoding.block and self.options.attention == "row":
                # The row scale belongs to the whole row, not to this rank's share of it.
                encoding = neuron.codes((1, self.sizes["heads"] * self.sizes["head_dim"]))
            stored = self._one(rank, f"{name}self_attn.{module}", placed, encoding)
            whole_rows = whole(self.inventory[f"{name}attn.o"]).parts[0] if projection == "o" and not placed.parts else None
            out.append(stored._replace(scale_part=whole_rows))
        return out

    def _moe(self, rank: int, layer: int) -> list[Stored]:
        p, name = self.parallel, f"layers.{layer}."
        each = self.sizes["experts"] // p.moe_ep
        share, first = rank % p.moe_tp, (rank // p.moe_tp) * each
        experts = range(first, first + each)
        encoding = neuron.expert_encoding(self.options)
        router = f"{name}block_sparse_moe.router."
        out = [
            self._one(rank, router + "linear_router", whole(self.inventory[f"{name}moe.router"]), BF16),
            self._one(rank, router + "e_score_correction_bias", whole(self.inventory[f"{name}moe.router_bias"]), BF16, suffix=""),
            self._one(rank, f"{name}{neuron.EXPERTS}.gate_up_proj",
                      neuron.gate_up(self.inventory, layer, experts).cut(1, share, p.moe_tp, stride=2), encoding),
            self._one(rank, f"{name}{neuron.EXPERTS}.down_proj", neuron.down(self.inventory, layer, experts).cut(0, share, p.moe_tp), encoding),
            self._number(rank, f"{name}block_sparse_moe.expert_mlps.spmd_rank.rank", (rank,)),
        ]
        if p.moe_ep > 1:
            out.append(self._number(rank, f"{name}block_sparse_moe.expert_mlps.spmd_rank.local_expert_indices", tuple(experts), (1, each)))
        return out

    def _one(self, rank: int, stem: str, placed: Placement, encoding: Encoding, suffix: str = ".weight") -> Stored:
        return Stored(f"tp{rank}/{stem}", suffix, _file(rank), placed, encoding)

    def _number(self, rank: int, name: str, values: tuple[int, ...], shape: tuple[int, int] | None = None) -> Stored:
        return neuron.constant(f"tp{rank}/{name}", values, shape)._replace(file=_file(rank))


def _file(rank: int) -> str:
    return f"weights/tp{rank}_sharded_checkpoint.safetensors"
