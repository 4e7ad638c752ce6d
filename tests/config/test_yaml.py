"""What a YAML file may look like, and what is said of one that may not."""

import math
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipemlp.config import ConfigError
from pipemlp.config.origin import Position, format_key, parse_key
from pipemlp.config.parsing import YamlTextError, flatten, parse_yaml
from pipemlp.config.reading import read_yaml
from pipemlp.config.scalars import plain_scalar


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("1E3", 1000.0),
        (".5", 0.5),
        ("1.", 1.0),
        ("-2", -2),
        ("+3", 3),
        ("012", 12),
        ("0o14", 12),
        ("0x1F", 31),
        (".inf", math.inf),
        ("-.Inf", -math.inf),
        ("~", None),
        ("", None),
        ("null", None),
        ("true", True),
        ("FALSE", False),
        ("off", "off"),
        ("yes", "yes"),
        ("y", "y"),
        ("1_000", "1_000"),
        ("1:30", "1:30"),
        ("2024-01-01", "2024-01-01"),
        ("0b11", "0b11"),
        ("1e", "1e"),
        ("nan", "nan"),
        ("9" * 5000, "9" * 5000),
    ],
)
def test_scalars_are_those_of_yaml_1_2(text, value):
    found = plain_scalar(text)
    assert found == value and type(found) is type(value)


def test_nan():
    assert math.isnan(plain_scalar(".nan"))


def test_plain_values_and_their_lines(write):
    write('# one\na: 1e-4\nb:\n  - off\n  - {c: "8", d: null}\ne: &x [1, 2]\nf: *x\n')
    document = read_yaml("a.yaml")
    assert document.values == {"a": 1e-4, "b": ["off", {"c": "8", "d": None}], "e": [1, 2], "f": [1, 2]}
    assert type(document.values["b"]) is list and type(document.values["b"][1]) is dict
    assert document.positions[("a",)] == Position("a.yaml", 2)
    assert document.positions[("b", 1, "d")] == Position("a.yaml", 5)
    assert str(document.positions[("f",)]) == "a.yaml:7"


def test_an_alias_is_a_copy(write):
    write("a: &x {b: 1}\nc: *x\n")
    values = read_yaml("a.yaml").values
    assert values["a"] == values["c"] and values["a"] is not values["c"]


def test_bom_directive_and_repeated_anchor_are_legal(write):
    write(b"\xef\xbb\xbf%YAML 1.1\n---\na: &x off\nb: &x 010\nc: *x\n...\n")
    assert read_yaml("a.yaml").values == {"a": "off", "b": 10, "c": 10}


def test_json_is_yaml(write):
    write('{"a": "\\ud83d\\ude00", "b": [1e3, null, true]}')
    assert read_yaml("a.yaml").values == {"a": "😀", "b": [1000.0, None, True]}


def test_read_yaml_raises_for_refused_keys(write):
    write("a: 1\nb: {c: 1, c: 2}\na: 2\n")
    with pytest.raises(ConfigError) as caught:
        read_yaml("a.yaml")
    assert caught.value.messages == (
        "a.yaml:2: b.c: key set twice; first on line 2",
        "a.yaml:3: a: key set twice; first on line 1",
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a.yaml: the file is empty; a config needs at least the sections data and model"),
        ("# nothing\n", "a.yaml: the file is empty; a config needs at least the sections data and model"),
        ("- 1\n", "a.yaml:1: a list at the top; a config is a mapping of sections (data: ...)"),
        ("\nhello\n", "a.yaml:2: a single value at the top; a config is a mapping of sections (data: ...)"),
        ("a: 1\n---\nb: 2\n", "a.yaml:2: not readable as YAML: a second document (---); a config is one document"),
        ("a: 1\nb: [1,\nc: 2\n", "a.yaml:2: not readable as YAML: a bracket or quote opened here is never closed"),
        ("a: 'x\nb: 2\n", "a.yaml:1: not readable as YAML: a bracket or quote opened here is never closed"),
        (
            "a: 1\nb: c: d\n",
            "a.yaml:2: not readable as YAML: a second `key: value` inside a value; check the indentation, or quote "
            "text that contains `: `",
        ),
        ("a:\n\tb: 1\n", "a.yaml:2: not readable as YAML: a tab; indent with spaces"),
        ("a: @b\n", "a.yaml:1: not readable as YAML: text that begins with @ needs quotes"),
        ("a: *x\n", "a.yaml:1: not readable as YAML: *x stands for nothing: no &x ends before it"),
        ("a: &x [*x]\n", "a.yaml:1: not readable as YAML: *x stands for nothing: no &x ends before it"),
        (b"a: 1\nb: \xff\n", "a.yaml:2: not UTF-8 text (byte 0xff); save it as UTF-8"),
        (b"a: 1\nb: c\x00\n", "a.yaml:2: not readable as YAML: a control character that YAML does not allow"),
        ("a: " + "[" * 60 + "]" * 60, "a.yaml:1: not readable as YAML: nested more than 50 levels deep"),
        (
            'a: 1\nb: "\\ud800x"\n',
            "a.yaml:2: not readable as YAML: half a character (\\ud800 to \\udfff without its other half)",
        ),
        (b"a" * 1_000_001, "a.yaml: larger than 1,000,000 bytes; this is not a config"),
    ],
)
def test_unreadable_text(refused, text, message):
    assert refused(text, base=False) == [message]


def test_alias_bombs_are_bounded(refused):
    levels = ["a0: &a0 [1]"] + [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 30)]
    message = "a.yaml:1: not readable as YAML: more than 100,000 values once aliases are written out"
    assert refused("\n".join(levels), base=False) == [message]
    chain = ["a0: &a0 [1]"] + [f"a{i}: &a{i} [*a{i - 1}]" for i in range(1, 3000)]
    (message,) = refused("\n".join(chain), base=False)
    assert message.endswith("not readable as YAML: nested more than 50 levels deep")


def test_tags_merge_keys_and_odd_keys_are_refused_together(refused):
    text = "run: !!python/object/apply:os.system {seed: 1}\nloss:\n  <<: {name: mse}\n? [1]\n: 2\nprecision: !x fp32\n"
    assert refused(text) == [
        "a.yaml:3: run: the tag !!python/object/apply:os.system is not allowed; write the value alone",
        "a.yaml:4: loss.name: missing key; known names are mse, mae, huber, cross_entropy, binary_cross_entropy",
        "a.yaml:5: loss.<<: merge keys are not read; use `extends`, or write the keys out",
        "a.yaml:6: ?: a key must be text, not a list, mapping or alias",
        "a.yaml:8: precision: the tag !x is not allowed; write the value alone",
    ]


def test_missing_file_names_the_nearest(write):
    write("a: 1\n", "configs/digits.yaml")
    for path, message in [
        ("configs/digit.yaml", "configs/digit.yaml: no such file; did you mean configs/digits.yaml?"),
        ("configs/zzz.yaml", "configs/zzz.yaml: no such file"),
        ("confgs/a.yaml", f"confgs/a.yaml: no such file; there is no folder confgs here ({os.getcwd()})"),
        ("configs", "configs: a directory, not a file; give one of its files, such as configs/digits.yaml"),
        ("bad\0name", "bad\0name: cannot be read: embedded null byte"),
    ]:
        with pytest.raises(ConfigError) as caught:
            read_yaml(path)
        assert caught.value.messages == (message,)


@given(st.text(max_size=80))
def test_any_text_is_read_or_refused(text):
    try:
        parsed = parse_yaml(text)
    except YamlTextError as error:
        assert error.reason and error.line >= 1
    else:
        if parsed.node:
            flatten(parsed.node)


@given(st.lists(st.text("abc_-1", min_size=1).filter(lambda name: not name.isdigit()) | st.integers(0, 99), min_size=1))
def test_keys_are_printed_and_parsed_back(parts):
    assert parse_key(format_key(tuple(parts))) == tuple(parts)
