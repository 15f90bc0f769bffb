"""Headers that nobody's writer wrote: good ones, changed in their structure or in their bytes. The same seed gives the same file."""

from __future__ import annotations

import json
import struct
from random import Random

# Values as JSON text, for any place.
TEXTS = ["null", "true", "0", "-0", "1", "-1", "0.0", "1.0", "1e0", "2e1", "1e400", "-1e999", "1e-400", "0e999", "01", "+1", ".5", "NaN", "Infinity", "[]", "{}",
         '""', '"F32"', '"F64"', '"f32"', '"F4"', '"x"', "[0]", "[0,8]", "[8,0]", "[0,8,8]", "[0,4]", '["0",8]', "[2]", "[1,2]", "[2,1,1]", "[2,0]", "[-2]", "[2.0]",
         '{"F32":null}', '{"F32":0}', '["F32",[2],[0,8]]', '{"dtype":"F32","shape":[2],"data_offsets":[0,8]}', '"\\u0000"', '"\\ud800"', '"\\ud83d\\ude00"',
         '"\\udc00\\ud800"', '"\\x"', '"\\u00"', '"\t"', '"\\\\ud800"', '"é"', "9223372036854775807", "9223372036854775808", "18446744073709551615", "18446744073709551616",
         "-9223372036854775808", "-9223372036854775809", "9" * 300, "9" * 310, "9" * 5000, "-" + "9" * 5000, "[" + ",".join(["1"] * 63) + ",2]",
         "[2" + ",1" * 64 + "]", "[2" + ",1" * 20_000 + "]", "[4294967296,4294967296,0]", "[0,4294967296,4294967296]", "[4294967296,2147483648]", "[18446744073709551616,0]",
         *("[" * n + "]" * n for n in (2, 100, 123, 124, 125, 126, 127, 128, 1000)), *('{"a":' * n + "1" + "}" * n for n in (100, 124, 125, 126, 127, 128))]
KEYS = ["dtype", "shape", "data_offsets", "name", "file", "start", "__metadata__", "a", "b", "", "x", "\\u0064type", "__metadata_\\u005f", "\\ud800", "é", "-0"]
SPACES = ["", "", "", " ", "\n", "\t \r", "\v", "\u00a0", "\f"]

Node = tuple[str, object]  # ("object", [[key, node], …]), ("list", [node, …]) or ("text", JSON)


def mutated(seed: int) -> bytes:
    """One safetensors file, changed one to three times."""
    random = Random(seed)
    tree, data = _good(random)
    raw = None
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        if random.random() < 0.8 and raw is None:
            tree = _change(random, tree)
        else:
            raw = _bytes(random, raw if raw is not None else _text(random, tree))
    raw = raw if raw is not None else _text(random, tree)
    length = len(raw) + (random.choice((-1, 1, 8, 1 << 40, 1 << 63)) if random.random() < 0.02 else 0)
    size = max(0, data + (random.choice((-8, -1, 1, 8)) if random.random() < 0.03 else 0))
    return struct.pack("<Q", max(0, length)) + raw + bytes(size)


def _good(random: Random) -> tuple[Node, int]:
    """A header that every reader takes, as a tree, and the bytes of its data."""
    header: dict[str, object] = {}
    if random.random() < 0.5:
        header["__metadata__"] = random.choice(({"format": "pt"}, {}, {"shape": "a", "start": "b", "data_offsets": "c"}))
    end = 0
    for name in random.sample(["a", "b", "model.layers.0.q_proj.weight", "ü", "", "c-0"], random.randint(0, 4)):
        dtype, shape, size = random.choice((("F32", [2], 8), ("BF16", [2, 2], 8), ("F4", [4, 4], 8), ("U8", [], 1), ("F32", [0, 5], 0), ("F8_E4M3", [3], 3)))
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [end, end + size]}
        end += size
    return _node(header), end


def _node(value: object) -> Node:
    if isinstance(value, dict):
        return "object", [[json.dumps(key, ensure_ascii=False)[1:-1], _node(each)] for key, each in value.items()]
    return ("list", [_node(each) for each in value]) if isinstance(value, list) else ("text", json.dumps(value))


def _text(random: Random, node: Node) -> bytes:
    spaces = SPACES if random.random() < 0.02 else SPACES[:6] if random.random() < 0.2 else [""]

    def write(node: Node) -> str:
        kind, inside = node
        if kind == "text":
            return str(inside)
        space = random.choice(spaces)
        if kind == "list":
            return "[" + f"{space},".join(map(write, inside)) + "]"
        return "{" + f"{space},".join(f'{space}"{key}"{space}:{space}{write(value)}' for key, value in inside) + space + "}"

    return write(node).encode()


def _change(random: Random, node: Node) -> Node:
    """One change somewhere in the tree."""
    kind, inside = node
    if kind == "text" or not inside or random.random() < 0.1:
        return _other(random, node)
    inside = list(inside)
    at = random.randrange(len(inside))
    if random.random() < 0.6:
        inside[at] = [inside[at][0], _change(random, inside[at][1])] if kind == "object" else _change(random, inside[at])
        return kind, inside
    if kind == "list":
        random.choice((lambda: inside.pop(at), lambda: inside.insert(at, inside[at]), lambda: inside.append(("text", random.choice(TEXTS)))))()
        return kind, inside
    match random.choice((0, 1, 2, 3, 3, 3, 4, 4, 5)):
        case 0:
            inside.pop(at)
        case 1:
            inside.insert(random.randrange(len(inside) + 1), inside[at])
        case 2:
            inside[at] = [random.choice(KEYS), inside[at][1]]
        case 3:
            inside.insert(at, [random.choice((*KEYS, "x", "y", "z")), ("text", random.choice(TEXTS))])
        case 4:
            random.shuffle(inside)
        case 5:
            return "list", [value for _, value in inside]
    return kind, inside


def _other(random: Random, node: Node) -> Node:
    kind, inside = node
    if kind == "text" and str(inside).isdigit() and len(str(inside)) < 20 and random.random() < 0.5:
        return "text", str(max(0, int(str(inside)) + random.choice((-8, -1, 1, 2, 8))))
    return "text", random.choice(TEXTS)


def _bytes(random: Random, raw: bytes) -> bytes:
    """One change of the bytes."""
    if not raw:
        return random.randbytes(3)
    at = random.randrange(len(raw))
    match random.randrange(5):
        case 0:
            return raw[:at] + bytes([raw[at] ^ (1 << random.randrange(8))]) + raw[at + 1:]
        case 1:
            return raw[:at] + random.choice((b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":", b"-", b"0", b"1", b"\xff", b"\xc3", b"\xed\xa0\x80", b"\x00", b"\x7f", b" ", b"\v")) \
                + raw[at:]
        case 2:
            return raw[:at] + raw[at + random.randint(1, 3):]
        case 3:
            end = at + random.randint(1, 30)
            return raw[:end] + raw[at:]
        case _:
            return raw[:at]
