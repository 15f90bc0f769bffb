"""Which part a tensor plays, from its name: by the family's inventory where it is known, else by its last words (`models.roles`).

Names repeat from layer to layer, so a role is found once for each *key* (the name without its layer number).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from weighbridge.errors import WeighbridgeError
from weighbridge.models import FAMILIES, inventory
from weighbridge.models.roles import ATTENTION, ATTENTION_PARENTS, EMBEDDINGS, FEED_FORWARD, HEADS, MTP_WORDS, SHARED, TOWERS, role_of
from weighbridge.models.sizes import shortened

__all__ = ["ATTENTION", "ATTENTION_PARENTS", "EMBEDDINGS", "FEED_FORWARD", "HEADS", "MTP_WORDS", "SHARED", "TOWERS", "family_roles", "key_of", "keys_of",
           "role_of"]


def key_of(name: str) -> str:
    """The name without its layer number: `model.layers.7.x` and `model.layers.8.x` are both `model.layers.x`."""
    start = name.find("layers.") + 7
    if start < 7:
        return name
    end = name.find(".", start)
    return name[:start] + name[end + 1:] if name[start:end].isdigit() else name


def keys_of(names: Iterable[str]) -> list[str]:
    """`key_of` each name. Neighbours share their layer, so its prefix is looked for once in a run of names."""
    keys: list[str] = []
    prefix, base = "\0", ""
    for name in names:
        if name.startswith(prefix):
            keys.append(base + name[len(prefix):])
            continue
        key = key_of(name)
        keys.append(key)
        if key is not name:
            base = name[: name.find("layers.") + 7]
            prefix = name[: name.find(".", len(base)) + 1]
    return keys


def family_roles(config: dict[str, Any]) -> tuple[dict[str, str], str]:
    """Role by key for a known family, and why its inventory cannot be made (if so). One layer names them all."""
    model_type = config.get("model_type")
    if not isinstance(model_type, str) or model_type not in FAMILIES:
        return {}, ""
    try:
        made = inventory(shortened(config, 1, drafts=False))
    except WeighbridgeError as error:
        return {}, str(error)
    found = {key_of(w.published): w.role for w in made.weights.values() if w.published}
    return found | {key_of(form.name): form.role for form in made.main_forms}, ""
