"""Plan files: written, read back, refused for another configuration."""

import json

import pytest

from pipemlp.config.data import DataConfig
from pipemlp.config.root import RunConfig
from pipemlp.planning.analytic import nominal_costs
from pipemlp.planning.layers import describe_layers
from pipemlp.planning.making import Known, lay_out
from pipemlp.planning.plan_file import FILE, parse_plan_file, plan_file_of
from pipemlp.planning.resolve import resolve
from pipemlp.planning.shapes import DataShape
from pipemlp.planning.workload import Setting, workload_of

SHAPE = DataShape(num_numeric=16, cardinalities=(), output_width=3, task="classification", num_rows=(64, 0, 0))


def configured(**changes):
    values = {"data": {"source": "wine"}, "model": {"hidden": [32, 32, 32]}, "training": {"global_batch_size": 32}}
    config, _ = resolve(RunConfig.model_validate(values | changes), SHAPE)
    return config, describe_layers(config.model, SHAPE)


@pytest.fixture(scope="module")
def planned():
    config, layers = configured()
    workload = workload_of(config, layers)
    source = nominal_costs(workload)
    setting = Setting(num_stages=2, num_micro_batches=4, schedule="zb-h1", recompute="elementwise")
    return plan_file_of(config, layers, lay_out(workload, setting, Known(source=source)), source.machine)


def test_round_trip(planned):
    assert parse_plan_file(planned.to_text()) == planned


def test_what_people_read(planned):
    body = json.loads(planned.to_text())
    assert body["parallel"]["stages"] == 2 and body["parallel"]["recompute"] == "elementwise"
    assert len(body["parallel"]["partition"]) == 3
    prediction = body["prediction"]
    assert prediction["samples_per_second"] == pytest.approx(32 / prediction["step_seconds"])
    assert len(prediction["peak_bytes"]) == 2 and prediction["is_measured"] is False
    counted, peaks = prediction["counted_bytes"], prediction["peak_bytes"]
    assert all(0 < some <= peak for some, peak in zip(counted, peaks, strict=True))


def test_it_holds_for_its_own_configuration(planned):
    assert planned.differing_keys(*configured()) == []
    assert planned.differing_keys(*configured(parallel={"stages": 3})) == []  # which it replaces


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"model": {"hidden": [32, 32]}}, "model: the plan is for 5 layers (plain; 3 to 32 wide; "),
        ({"training": {"global_batch_size": 64}}, "training.global_batch_size: the plan is for 32, and here it is 64"),
        ({"precision": "bf16"}, "precision: the plan is for fp32, and here it is bf16"),
        ({"optimizer": "sgd"}, "optimizer: the plan is for adamw with weight decay, and here it is sgd"),
        (
            {"optimizer": {"name": "adamw", "weight_decay": 0.0}},
            "optimizer: the plan is for adamw with weight decay, and here it is adamw",
        ),
        (
            {"optimizer": {"name": "sgd", "momentum": 0.9, "nesterov": True}},
            "optimizer: the plan is for adamw with weight decay, and here it is sgd-nesterov",
        ),
        (
            {"training": {"global_batch_size": 32, "clip_norm": 1.0}},
            "training.clip_norm: the plan is for off, and here it is on",
        ),
        (
            {"gradients": {"pattern": "ring", "compression": "bf16"}},
            "gradients: the plan is for backend, synchronous, none, and here it is ring, synchronous, bf16 (",
        ),
        ({"model": {"hidden": [32, 32, 32], "dropout": 0.1}}, "model: the plan is for "),
    ],
)
def test_it_does_not_hold_for_another(planned, changes, key):
    (difference,) = planned.differing_keys(*configured(**changes))
    assert difference.startswith(key)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text[:100], "is no plan, or was cut off: .*; plan again"),
        (lambda text: "[1]", "is no plan; `pipemlp plan CONFIG` makes one"),
        (lambda text: text.replace('"format": 2', '"format": 7'), "has format 7, and this version of pipemlp reads 2"),
        (
            lambda text: text.replace('"format": 2', '"format": "2"'),
            "has format '2', and this version .* reads 2; plan",
        ),
        (lambda text: text.replace('"stages": 2', '"stages": 3'), "was changed after it was written .*; plan again"),
        (lambda text: text.replace('"pipeline_seconds": ', '"pipeline_seconds": 1'), "was changed after"),
        (lambda text: text.replace('"checksum"', '"check"'), "was changed after it was written"),
    ],
)
def test_damaged(planned, change, message):
    with pytest.raises(ValueError, match=message):
        parse_plan_file(change(planned.to_text()))


@pytest.mark.parametrize(
    "part", [{"holds_for": {}}, {"parallel": {"foo": 5}}, {"costs": [1]}, {"prediction": {"bubbles": "abc"}}]
)
def test_a_sealed_file_without_what_a_plan_has(planned, part):
    with pytest.raises(ValueError, match="^a part is missing, or is of another type; plan again$"):
        parse_plan_file(FILE.text({**planned.to_json(), **part}))


def test_other_values_besides(planned):
    assert parse_plan_file(planned.to_text({"num_stages": 2, "prediction": None})) == planned


def test_data_config_is_not_part_of_it(planned):
    other, layers = configured(data=DataConfig.model_validate({"source": "digits"}))
    assert planned.differing_keys(other, layers) == []
