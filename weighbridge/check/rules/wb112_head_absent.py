"""WB112 head-absent: there is no `lm_head`, and the config does not say that it is tied to the embedding.

## What it does
Looks for the head, and for `tie_word_embeddings` at both places where it can stand (the config and its `text_config`).

## Why it matters
A reader that does not find the head and is not told to tie it starts with a head at random values: the server is up, the text is garbage.
Where the two places disagree, it hangs on the reader which one counts.

## Example
`tie_word_embeddings` is true at the top and missing in `text_config`, whose class ties by default: one reader ties, the other does not.

## How to mend
Write `tie_word_embeddings: true` at both places if the head is the embedding; else download the file that holds the head.

## References
vllm-project/vllm#53020.
"""

from __future__ import annotations

from collections.abc import Iterator

from weighbridge.check.case import Case
from weighbridge.check.finding import Edit, Finding, Fix, Where
from weighbridge.check.rule import Rule

RULE = Rule("WB112", "head-absent", "error")

# Config classes whose default ties the head (transformers 5.23: `tie_word_embeddings: bool = True`).
TIED_BY_DEFAULT = ("gemma", "gemma2", "gemma3", "gemma3_text", "gpt2", "cohere", "cohere2")


def find(case: Case) -> Iterator[Finding]:
    if case.checkpoint.fatal or case.checkpoint.ranks or not case.modules.all or not any(m.role == "embedding" for m in case.modules.all):
        return
    if any(m.role == "lm_head" for m in case.modules.all):
        return
    outer, inner = case.config.get("tie_word_embeddings"), case.text_config.get("tie_word_embeddings")
    nested = case.text_config is not case.config
    text_tied = Edit("config.json", ("text_config", "tie_word_embeddings"), True)
    whole_tied = Edit("config.json", ("tie_word_embeddings",), True)
    if outer is True and (not nested or inner is True):
        return
    if nested and (outer is True or inner is True):
        yield RULE.finding("There is no lm_head, and the two places that say whether it is tied disagree", Where(key="config.json: tie_word_embeddings"),
                           evidence=f"tie_word_embeddings is {outer!r} in config.json and {inner!r} in text_config",
                           consequence="no error: a reader that looks at the other place starts with a head at random values",
                           fix=Fix("say it at both places", True, (whole_tied, text_tied)))
    elif outer is None and inner is None and case.checkpoint.model_type in TIED_BY_DEFAULT:
        return
    else:
        yield RULE.finding("There is no lm_head, and the config does not tie it to the embedding", Where(module="lm_head", key="config.json: tie_word_embeddings"),
                           evidence=f"tie_word_embeddings is {outer!r}, and no tensor is a head",
                           consequence="no error in readers that do not compare: the head stays at random values, the text is garbage",
                           fix=Fix("if the head is the embedding, say so; else download the file that holds the head", True,
                                   (whole_tied, text_tied) if nested else (whole_tied,)))
