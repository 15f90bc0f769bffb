"""The text side on the demo checkpoint: tokens, streams, sampling, chat and scores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import weighbridge as wb
from weighbridge.checkpoint.source import open_checkpoint
from weighbridge.engine.chat import Chat
from weighbridge.engine.generate import Model
from weighbridge.engine.sampling import Sampler, Sampling, distribution, end_tokens, read_settings
from weighbridge.engine.score import nats_of
from weighbridge.engine.tokenizer import Tokenizer
from weighbridge.errors import Usage, WeighbridgeError

DEMO = Path(wb.__file__).parent / "demo" / "checkpoint"


@pytest.fixture(scope="module")
def model() -> Model:
    return wb.load(DEMO)


def test_a_stream_gives_the_text_that_decoding_at_once_gives() -> None:
    tokenizer = Tokenizer(open_checkpoint(DEMO))
    for text in ("And it came to pass, that he went forth.\n", "naïve Ω 漢字 🙂 in Zion", " ".join(["begat"] * 300)):
        ids = tokenizer.encode(text)
        stream = tokenizer.stream()
        pieces = [stream.push(i) for i in ids]
        assert "".join(pieces) + stream.rest() == tokenizer.decode(ids) == text
        assert "\ufffd" not in "".join(pieces)


@pytest.mark.parametrize("text", ["漢字" * 60, "🙂" * 50, "aΩ漢🙂" * 40, "Ω" * 100])
def test_a_stream_is_right_where_every_byte_is_a_token(text: str, tmp_path: Path) -> None:
    """As in a SentencePiece vocabulary with byte fallback: one bad byte spoils a whole run of them."""
    tokenizers = pytest.importorskip("tokenizers")
    inner = tokenizers.Tokenizer(tokenizers.models.BPE({f"<0x{b:02X}>": b for b in range(256)}, [], byte_fallback=True))
    inner.decoder = tokenizers.decoders.Sequence([tokenizers.decoders.ByteFallback(), tokenizers.decoders.Fuse()])
    for path in DEMO.iterdir():
        if path.name != "tokenizer.json":
            (tmp_path / path.name).symlink_to(path)
    inner.save(str(tmp_path / "tokenizer.json"))
    tokenizer = Tokenizer(open_checkpoint(tmp_path))
    stream = tokenizer.stream()
    pieces = [stream.push(b) for b in text.encode()]
    assert "".join(pieces) == text and not stream.rest()


def test_a_template_may_mark_its_answers() -> None:
    chat = Chat(open_checkpoint(DEMO))
    chat.template = "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}"
    assert chat.prompt("Who?") == "Who?"


def test_generation_is_repeatable_by_seed_and_greedy_is_greedy(model: Model) -> None:
    def say(**settings: object) -> str:
        return "".join(piece.text for piece in model.generate("In the beginning", max_tokens=24, **settings))

    assert say(seed=5) == say(seed=5) != say(seed=6)
    greedy = say(temperature=0)
    assert greedy == say(temperature=0, seed=9) and len(greedy.split()) > 5
    ids = model.tokenizer.encode("In the beginning")
    for _ in range(24):
        ids.append(int(np.argmax(model.logits(ids)[-1])))
    assert model.tokenizer.decode(ids[-24:]) == greedy


def test_the_text_is_english(model: Model) -> None:
    """Most words of a sample are words of the held-out text: the letters alone would give none."""
    known = set((DEMO / "heldout.txt").read_text(encoding="utf-8").lower().replace(",", " ").replace(".", " ").split())
    words = "".join(piece.text for piece in model.generate("And the LORD said", max_tokens=80, seed=1)).lower().replace(",", " ").replace(".", " ").split()
    assert sum(word in known for word in words) / len(words) > 0.6, words


def test_it_stops_at_an_end_token(model: Model) -> None:
    pieces = list(model.generate("The LORD is my shepherd.", chat=True, max_tokens=600, seed=2))
    assert model.timing.ended == "eos" and pieces[-1].id in model.ends and "[e~[" not in pieces[-1].text


def test_the_chat_has_the_published_form() -> None:
    chat = Chat(open_checkpoint(DEMO))
    text = chat.prompt("Who art thou?")
    assert text.startswith("]~!b[]~b]system\n") and text.endswith("]~b]user\nWho art thou?[e~[\n]~b]ai\n<think>\n")
    chat.answered("</think>\n\nI am.")
    assert "I am." in chat.prompt("And then?")


def test_sampling_keeps_what_top_k_and_top_p_say() -> None:
    logits = np.log(np.array([0.5, 0.25, 0.15, 0.07, 0.03], np.float32))
    assert list(distribution(logits, Sampling(1.0))[0]) == [0, 1, 2, 3, 4]
    assert list(distribution(logits, Sampling(1.0, top_k=2))[0]) == [0, 1]
    assert list(distribution(logits, Sampling(1.0, top_p=0.8))[0]) == [0, 1, 2]
    assert list(distribution(logits, Sampling(1.0, top_p=1e-9))[0]) == [0]
    sampler = Sampler(Sampling(1.0, seed=4))
    drawn = np.bincount([sampler.pick(logits) for _ in range(4000)], minlength=5) / 4000
    assert np.abs(drawn - [0.5, 0.25, 0.15, 0.07, 0.03]).max() < 0.03
    with pytest.raises(WeighbridgeError, match="NaN"):
        sampler.pick(np.array([1.0, np.nan], np.float32))


def test_settings_come_from_the_user_then_the_file() -> None:
    stated = {"do_sample": True, "temperature": 0.8, "top_p": 0.95, "top_k": 40}
    assert read_settings(stated, {}) == Sampling(0.8, 0.95, 40)
    assert read_settings(stated, {"temperature": 0.0, "seed": 3}) == Sampling(0.0, 0.95, 40, 3)
    assert read_settings(None, {}).temperature == 0 and read_settings({"do_sample": False, "temperature": 0.7}, {}).temperature == 0
    assert end_tokens({"eos_token_id": [1, 2]}, {}, 10) == {1, 2} and end_tokens(None, {"eos_token_id": 7}, 10) == {7}


@pytest.mark.parametrize("stated", [{"do_sample": 3}, {"do_sample": True, "temperature": "hot"}, {"do_sample": True, "top_k": -1}])
def test_wrong_settings_name_their_key(stated: dict) -> None:
    with pytest.raises(WeighbridgeError) as caught:
        read_settings(stated, {})
    assert "generation_config.json: " in caught.value.first.where


@pytest.mark.parametrize("value", ["x", [1, "2"], True, 99, -1, {}])
def test_wrong_end_tokens_name_their_key(value: object) -> None:
    with pytest.raises(WeighbridgeError) as caught:
        end_tokens({"eos_token_id": value}, {}, 10)
    assert "eos_token_id" in caught.value.first.where


@pytest.mark.parametrize("settings", [{"temperature": -1}, {"top_p": 0}, {"top_p": 2}, {"top_k": -1}, {"seed": -1}])
def test_settings_out_of_range_are_refused(settings: dict) -> None:
    with pytest.raises(Usage):
        Sampling(**settings)


def test_nats_are_those_of_the_softmax() -> None:
    logits = np.random.default_rng(0).normal(size=(5, 9)).astype(np.float32)
    targets = np.array([0, 3, 8, 2, 2])
    expected = -np.log(np.exp(logits.astype(np.float64)) / np.exp(logits.astype(np.float64)).sum(-1, keepdims=True))[np.arange(5), targets]
    assert np.allclose(nats_of(logits, targets), expected)


def test_logits_and_captures_for_python(model: Model) -> None:
    ids = [5, 6, 7]
    logits, captured = model.logits(ids), model.capture(ids)
    assert logits.shape == (3, 2048) and np.array_equal(captured["logits"], logits)
    assert captured["embed"].shape == captured["layers.3.block"].shape == (3, 256) and captured["layers.0.chosen"].shape == (3, 2)
