"""Boundaries for a plain PipelineModule: by measured times, and taken by DeepSpeed."""

import pytest
import torch
from plain_pipeline_bodies import num_layers_held
from torch import nn

from pipemlp.profiling import for_deepspeed
from pipemlp.profiling.for_deepspeed import Run, profiled_boundaries


class Slow(nn.Linear):
    """A layer that takes so many seconds of a clock of its own."""

    clock = 0.0

    def __init__(self, seconds: float) -> None:
        super().__init__(8, 8)
        self.seconds = seconds

    def forward(self, x):
        Slow.clock += self.seconds
        return super().forward(x)


def spec(*arguments):
    from deepspeed.pipe import LayerSpec

    return LayerSpec(*arguments)


def test_the_slow_layer_gets_a_stage_of_its_own(monkeypatch):
    monkeypatch.setattr(for_deepspeed.time, "perf_counter", lambda: Slow.clock)
    layers = [*map(Slow, (1.0, 1.0, 9.0, 1.0)), nn.ReLU()]
    assert profiled_boundaries(layers, 3, torch.randn(4, 8)) == (0, 2, 3, 5)


def test_specs_and_tuples():
    layers = [nn.Bilinear(8, 8, 8), spec(nn.Linear, 8, 8)]
    with pytest.raises(TypeError):  # a layer takes one value in a pipeline: the tuple
        profiled_boundaries(layers, 2, (torch.randn(4, 8), torch.randn(4, 8)))
    assert profiled_boundaries([spec(nn.Linear, 8, 8), spec(nn.Linear, 8, 2)], 2, torch.randn(4, 8)) == (0, 1, 2)


def test_layers_in_place_and_functions():
    layers = [nn.ReLU(inplace=True), nn.Linear(8, 8), torch.relu, nn.Linear(8, 8), lambda x: x.argmax(-1)]
    example = torch.randn(4, 8)
    before = example.clone()
    boundaries = profiled_boundaries(layers, 2, example)
    assert boundaries in ((0, 2, 5), (0, 3, 5)) and torch.equal(example, before)
    assert Run(layers[:3])(example).shape == (4, 8)


def test_the_model_and_random_numbers_stay_as_they_are():
    layers = [nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Dropout(), spec(nn.Linear, 8, 2)]
    layers[0].weight.grad = torch.ones(8, 8)
    state = {name: value.clone() for name, value in nn.Sequential(*layers[:3]).state_dict().items()}
    numbers = torch.random.get_rng_state()
    profiled_boundaries(layers, 2, torch.ones(4, 8))
    assert torch.equal(torch.random.get_rng_state(), numbers)
    assert torch.equal(layers[0].weight.grad, torch.ones(8, 8))
    for name, value in nn.Sequential(*layers[:3]).state_dict().items():
        assert torch.equal(value, state[name]), name


def test_a_cap():
    layers = [nn.Linear(8, 8, bias=False) for _ in range(4)]
    assert profiled_boundaries(layers, 2, torch.randn(4, 8), memory_cap_bytes=2 * 64 * 16) == (0, 2, 4)
    with pytest.raises(ValueError, match="memory_caps: no cut keeps the caps"):
        profiled_boundaries(layers, 2, torch.randn(4, 8), memory_cap_bytes=64 * 16)


def test_too_many_stages():
    with pytest.raises(ValueError, match="2 of the 3 layers have parameters; use at most 2"):
        profiled_boundaries([nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2)], 3, torch.randn(2, 2))


def test_deepspeed_takes_them(run_on_ranks):
    assert run_on_ranks(2, num_layers_held, (0, 4, 6)) == [4, 2]
