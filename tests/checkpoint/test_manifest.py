"""The manifest: as it was written, or refused with a reason; never anything else."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipemlp.checkpoint.manifest import FORMAT, FileEntry, Manifest, hashed, parse_manifest
from pipemlp.config.errors import ModelFileError

MANIFEST = Manifest(
    step=120,
    num_stages=2,
    num_replicas=2,
    is_apart=False,
    files={"layer-00001.replica-0.safetensors": FileEntry(1234, "ab" * 32), "training.json": FileEntry(0, "0" * 64)},
    facts={"precision": "fp32"},
)


def test_it_reads_what_it_writes():
    assert parse_manifest(MANIFEST.to_text(), "here") == MANIFEST
    assert MANIFEST.num_bytes == 1234


def changed(**values):
    return json.dumps(json.loads(MANIFEST.to_text()) | values)


def with_file(name, entry=None):
    return changed(files={name: entry if entry is not None else {"bytes": 1, "sha256": "0" * 64}})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "it is no JSON"),
        ("{", "it is no JSON"),
        ("[]", "it is no manifest"),
        ("{}", "it is no manifest"),
        (changed(format=FORMAT + 1), f"format {FORMAT + 1}, this version reads up to {FORMAT}; upgrade pipemlp"),
        (changed(step=-1), "step is -1"),
        (changed(step=True), "step is True"),
        (changed(num_stages=0), "num_stages is 0"),
        (changed(num_replicas="2"), "num_replicas is '2'"),
        (changed(is_apart=None), "is_apart is None"),
        (changed(facts={"a": 1}), "facts are no texts by name"),
        (changed(files={}), "it lists no files"),
        (changed(files=None), "it lists no files"),
        (with_file("../../etc/passwd"), "'../../etc/passwd' is no name of a file in this folder"),
        (with_file("/etc/passwd"), "is no name of a file"),
        (with_file("a/b"), "is no name of a file"),
        (with_file(".."), "is no name of a file"),
        (with_file("MANIFEST.json"), "is no name of a file"),
        (with_file("a\n"), "is no name of a file"),
        (with_file("a", {"bytes": 1, "sha256": "zz"}), "a has no size with a SHA-256"),
        (with_file("a", {"bytes": -1, "sha256": "0" * 64}), "a has no size with a SHA-256"),
        (with_file("a", []), "a has no size with a SHA-256"),
    ],
)
def test_what_is_wrong_is_said(text, message):
    with pytest.raises(ModelFileError) as error:
        parse_manifest(text, "step-120/MANIFEST.json")
    assert str(error.value).startswith("step-120/MANIFEST.json: ") and message in str(error.value)


def test_a_bit_that_has_changed_is_noticed():
    """Any of them: in a number, a name, a text, the digest."""
    data = MANIFEST.to_text().encode()
    for place in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[place // 8] ^= 1 << place % 8
        try:
            text = flipped.decode()
        except UnicodeDecodeError:
            continue  # which the reader of the file refuses
        with pytest.raises(ModelFileError, match="^here: "):
            parse_manifest(text, "here")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=20), inner, max_size=3),
    max_leaves=8,
)
KEYS = ("format", "step", "num_stages", "num_replicas", "is_apart", "facts", "files")


@given(
    st.text(max_size=200) | st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=5), json_values).map(json.dumps)
)
def test_nothing_else_ever_comes_out(text):
    try:
        parse_manifest(text, "here")
    except ModelFileError:
        return


@given(st.sampled_from(KEYS), json_values)
def test_one_damaged_value_is_a_manifest_or_a_reason(key, value):
    try:
        parse_manifest(changed(**{key: value}), "here")
    except ModelFileError as error:
        assert str(error).startswith("here: ")


def test_hashed(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert hashed(tmp_path / "a") == FileEntry(3, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
