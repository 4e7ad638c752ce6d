"""Whatever stands at whatever key, the answer is a config or a `ConfigError` with a place: never a traceback."""

import json

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pipemlp.config import ConfigError, load_config
from pipemlp.config.structure import known_keys

KEYS = sorted({key for key, _ in known_keys()}) + [("model", "hidden", "0"), ("zzz",), ("data", "path", "str")]
NAMES = ["auto", "sgd", "huber", "gated", "teacher", "step", "mse", "name", "width", "train"]
SCALARS = (
    st.none() | st.booleans() | st.integers(-3, 3) | st.just(10**80) | st.floats() | st.sampled_from(NAMES) | st.text()
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES) | st.text(), inner, max_size=3),
    max_leaves=6,
)


def yaml_of(value):
    """JSON is YAML, but for the names of numbers that are not finite."""
    text = json.dumps(value)
    return {"NaN": ".nan", "Infinity": ".inf", "-Infinity": "-.inf"}.get(text, text)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150, deadline=None)
@given(changes=st.lists(st.tuples(st.sampled_from(KEYS), VALUES), min_size=1, max_size=3))
@example(changes=[(("model", "hidden"), [[[]], {"block": {"name": "gated", "expansion": []}}])])
@example(changes=[(("data", "path"), {"str": 1, "SplitPaths": {}})])
def test_a_config_or_an_error_with_a_place(changes, write):
    values = {"data": {"source": "digits"}, "model": {"hidden": [8]}}
    for key, value in changes:
        inside = values
        for part in key[:-1]:
            if not isinstance(inside.get(part), dict):
                inside[part] = {}
            inside = inside[part]
        inside[key[-1]] = value
    name = write("\n".join(f"{json.dumps(section)}: {yaml_of(value)}" for section, value in values.items()))
    try:
        config = load_config(name)
    except ConfigError as error:
        assert error.messages
        for message in error.messages:
            assert len(message.splitlines()) == 1
            assert message.startswith("a.yaml") and "Input should" not in message and "validation error" not in message
    else:
        assert config.where("model").startswith("a.yaml:")
