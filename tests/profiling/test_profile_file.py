"""The profile file: what is written is read back, and nothing else is."""

import json
from dataclasses import replace

import pytest

from pipemlp.config.errors import ConfigError
from pipemlp.config.root import RunConfig
from pipemlp.planning.machine import Curve, Machine, Network
from pipemlp.planning.profile import Measurement, Profile
from pipemlp.profiling.profile_file import check_facts, read_profile, write_profile
from pipemlp.training.cost_sources import profile_costs

NETWORK = Network(Curve((1.0, 2.0), (0.1, 0.2)), Curve((3.0,), (0.3,)), turn_seconds=0.5)
MACHINE = Machine("some GPU", True, 8e10, NETWORK, NETWORK, action_seconds=(1.0, 2.0, 3.0), ranks_per_node=8)
PROFILE = Profile(MACHINE, ((Measurement(4, 1.0, 2.0, 3.0, 4.0, 5.0, 6, 7, 0.1, 12),),), (-1, 0, 0), (("model", "m"),))


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "x.profile.json"
    write_profile(path, PROFILE)
    return path


def test_round_trip(file):
    assert read_profile(file) == PROFILE


def refused(path) -> str:
    with pytest.raises(ConfigError) as caught:
        read_profile(path)
    return str(caught.value).replace(str(path), "FILE")


def test_truncated(file):
    file.write_text(file.read_text()[:200])
    assert refused(file).startswith("FILE: is no profile, or was cut off:")


def test_edited_by_hand(file):
    file.write_text(file.read_text().replace('"forward_seconds": 1.0', '"forward_seconds": 0.1'))
    assert refused(file) == "FILE: was changed after it was written (its checksum does not fit); profile again"


def test_of_another_format(file):
    body = json.loads(file.read_text())
    file.write_text(json.dumps(body | {"format": 99}))
    assert refused(file) == "FILE: has format 99, and this version of pipemlp reads 1; profile again"


@pytest.mark.parametrize("text", ["[]", '{"a": 1}', '"profile"'])
def test_something_else(file, text):
    file.write_text(text)
    assert refused(file) == "FILE: is no profile; `pipemlp profile CONFIG` makes one"


def test_binary(file):
    file.write_bytes(b"\xff\xfe\x00")
    assert "is no profile" in refused(file)


def test_missing(tmp_path):
    assert refused(tmp_path / "no") == "FILE: no such file; `pipemlp profile CONFIG --output FILE` makes it"


def test_a_folder(tmp_path):
    assert refused(tmp_path) == "FILE: cannot be read: Is a directory"


def test_not_writable(tmp_path):
    with pytest.raises(ConfigError, match="cannot be written"):
        write_profile(tmp_path / "no" / "x.json", PROFILE)


def test_of_another_model(file):
    check_facts(file, PROFILE, {"model": "m"})
    with pytest.raises(ConfigError) as caught:
        check_facts(file, PROFILE, {"model": "other", "device": "cpu"})
    assert "model is m there and other here; device is unknown there and cpu here; profile again" in str(caught.value)


def test_a_device_and_a_profile_of_another(file):
    config = RunConfig.model_validate({"data": {"source": "wine"}, "model": {"hidden": [8]}})
    write_profile(file, replace(PROFILE, facts=(("device", "NVIDIA H200"),)))
    with pytest.raises(ConfigError) as caught:
        profile_costs(file, config, (), "h100-80gb")
    assert str(caught.value) == (
        f"--device h100-80gb and --profile {file}, which is of NVIDIA H200, contradict each other: leave one out"
    )
