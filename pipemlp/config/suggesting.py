"""What the user may have meant: the nearest choice, the section that a misplaced key belongs to."""

import difflib
from collections.abc import Iterable, Sequence
from typing import Any

from pipemlp.config.origin import Key, format_key
from pipemlp.config.structure import annotation_at, choice_of, known_keys, section_at

OTHER_WORDS = {
    "batch_size": "global_batch_size",
    "criterion": "loss",
    "dataset": "data",
    "dtype": "precision",
    "gradient_clipping": "clip_norm",
    "layers": "hidden",
    "learning_rate": "lr",
    "max_epochs": "epochs",
    "max_steps": "steps",
    "num_epochs": "epochs",
    "num_stages": "stages",
    "replicas": "data_parallel",
    "scheduler": "lr_schedule",
    "network": "model",
    "wd": "weight_decay",
}
"""Keys of other tools, and ours."""

OTHER_VALUES = {
    "bce": "binary_cross_entropy",
    "bfloat16": "bf16",
    "float32": "fp32",
    "geglu": "gated",
    "gpu": "cuda",
    "l1": "mae",
    "l2": "mse",
    "resnet": "residual",
    "swiglu": "gated",
    "swish": "silu",
}
"""Values of other tools, and ours."""


def nearest(word: Any, known: Iterable[Any]) -> str | None:
    """The known word most like `word`, if any is."""
    names = [str(name) for name in known]
    if OTHER_VALUES.get(str(word).lower()) in names:
        return OTHER_VALUES[str(word).lower()]
    lower = {name.lower(): name for name in names}
    near = difflib.get_close_matches(str(word).lower(), list(lower), n=1, cutoff=0.6)
    return lower[near[0]] if near else None


def did_you_mean(word: Any, known: Iterable[Any]) -> str:
    """`; did you mean WORD?`, or nothing."""
    near = nearest(word, known)
    return f"; did you mean {near}?" if near else ""


def explain_unknown_key(key: Key, values: Any) -> str:
    """Why a key is unknown and which one may have been meant."""
    *above, name = key
    word = OTHER_WORDS.get(str(name), str(name))
    parent, here, chosen = _surroundings(tuple(above), values)
    if word in here:
        return f"unknown key; did you mean {format_key((*above, word))}?"
    places = [(place, choice) for place, choice in known_keys() if place[-1] == word]
    options = [choice for place, choice in places if choice and place[:-1] == parent]
    if chosen and options:
        return f"unknown key; {chosen} has no {word}, {_join(options)} has"
    elsewhere = sorted(dict.fromkeys(place for place, _ in places if place[:-1] != parent), key=len)
    if len(elsewhere) == 1 or (elsewhere and word != name):
        return f"unknown key; did you mean {format_key(elsewhere[0])}?"
    near = nearest(name, here)
    if near:
        return f"unknown key; did you mean {format_key((*above, near))}?"
    if not here:
        return f"unknown key; {chosen} has no options"
    what = chosen or (f"{format_key(tuple(above))}" if above else "a config")
    others = f" ({name} exists in {_join(format_key(place[:-1]) for place in elsewhere)})" if elsewhere else ""
    return f"unknown key; {what} has {', '.join(here)}{others}"


def _surroundings(above: Key, values: Any) -> tuple[Key, Sequence[str], str | None]:
    """Where an unknown key stands: the key above without list indices, its known keys, the named choice."""
    annotation = annotation_at(above, values)
    value = values
    for part in above:
        value = value[part]
    model = section_at(annotation, value) if annotation is not None else None
    here = [name for name in model.model_fields] if model else []
    choice = choice_of(annotation)
    chosen = str(value.get("name", choice.default)) if choice and isinstance(value, dict) else None
    if chosen and "name" in here:
        here.remove("name")
    return tuple(part for part in above if isinstance(part, str)), here, chosen


def _join(words: Iterable[str]) -> str:
    *most, last = dict.fromkeys(words)
    return f"{', '.join(most)} and {last}" if most else last
