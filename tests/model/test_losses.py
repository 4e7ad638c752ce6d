"""Losses: equal to torch's where torch defines them, weighted by row, in float32 at least."""

import pytest
import torch
from torch.nn import functional

from pipemlp.config.model import BinaryCrossEntropy, CrossEntropy, Huber, Mae, Mse
from pipemlp.config.registry import options_of
from pipemlp.config.section import Named, PositiveFloat
from pipemlp.model.losses import build_loss, loss_task, register_loss

N, K = 7, 4
CONFIGS = [
    Mse(),
    Mae(),
    Huber(delta=0.7),
    CrossEntropy(),
    CrossEntropy(label_smoothing=0.2, class_weights=(1.0, 0.0, 2.0, 0.5)),
    BinaryCrossEntropy(),
    BinaryCrossEntropy(positive_weights=(1.0, 3.0, 0.5, 2.0)),
]


def batch(config, dtype=torch.float64):
    generator = torch.Generator().manual_seed(3)
    outputs = torch.randn(N, K, dtype=dtype, generator=generator)
    target = {
        "regression": torch.randn(N, K, generator=generator),
        "classification": torch.randint(K, (N,), generator=generator),
        "multilabel": torch.randint(2, (N, K), generator=generator).float(),
    }[loss_task(config)]
    return outputs, target


def mean_by_torch(config, outputs, target):
    """The mean over rows by torch's functional form."""
    match config:
        case Mse():
            return functional.mse_loss(outputs, target.to(outputs))
        case Mae():
            return functional.l1_loss(outputs, target.to(outputs))
        case Huber():
            return functional.huber_loss(outputs, target.to(outputs), delta=config.delta)
        case CrossEntropy():
            return functional.cross_entropy(outputs, target, label_smoothing=config.label_smoothing)
        case BinaryCrossEntropy():
            factors = None if config.positive_weights is None else outputs.new_tensor(config.positive_weights)
            return functional.binary_cross_entropy_with_logits(outputs, target.to(outputs), pos_weight=factors)


@pytest.mark.parametrize("config", [c for c in CONFIGS if getattr(c, "class_weights", None) is None], ids=repr)
def test_equal_weights_give_torchs_mean(config):
    outputs, target = batch(config)
    loss = build_loss(config)(outputs, target, torch.full((N,), 1 / N, dtype=torch.float64))
    torch.testing.assert_close(loss, mean_by_torch(config, outputs, target), rtol=1e-14, atol=0)


def test_class_weights_multiply_rows_and_change_no_divisor():
    config = CONFIGS[4]
    outputs, target = batch(config)
    without = build_loss(config.model_copy(update={"class_weights": None})).per_row(outputs, target)
    factors = torch.tensor(config.class_weights, dtype=torch.float64)[target]
    weight = torch.full((N,), 1 / N, dtype=torch.float64)
    expected = (without * factors).sum() / N
    torch.testing.assert_close(build_loss(config)(outputs, target, weight), expected, rtol=1e-14, atol=0)


@pytest.mark.parametrize("config", CONFIGS, ids=repr)
def test_micro_batches_and_padding_sum_to_the_whole(config):
    loss = build_loss(config)
    outputs, target = batch(config)
    weight = torch.rand(N, dtype=torch.float64) / N
    whole = loss(outputs, target, weight)
    parts = sum(loss(outputs[a:b], target[a:b], weight[a:b]) for a, b in ((0, 3), (3, 4), (4, 7)))
    torch.testing.assert_close(parts, whole, rtol=1e-13, atol=0)
    padded = loss(*(torch.cat([x, torch.zeros_like(x[:2])]) for x in (outputs, target, weight)))
    torch.testing.assert_close(padded, whole, rtol=1e-13, atol=0)


@pytest.mark.parametrize("config", CONFIGS, ids=repr)
def test_gradients(config):
    outputs, target = batch(config)
    weight = torch.rand(N, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: build_loss(config)(x, target, weight), outputs.requires_grad_())


@pytest.mark.parametrize("config", CONFIGS, ids=repr)
def test_bf16_outputs_are_judged_in_float32(config):
    outputs, target = batch(config, torch.bfloat16)
    outputs.requires_grad_()
    loss = build_loss(config)(outputs, target, torch.full((N,), 1 / N, dtype=torch.bfloat16))
    assert loss.dtype == torch.float32
    loss.backward()
    assert outputs.grad.dtype == torch.bfloat16


def test_class_weights_first_used_in_inference_mode_serve_training():
    config = CrossEntropy(class_weights=(1.0, 2.0, 3.0, 4.25))
    outputs, target = batch(config)
    with torch.inference_mode():
        build_loss(config).per_row(outputs, target)
    build_loss(config)(outputs.requires_grad_(), target, torch.ones(N)).backward()


def test_tasks():
    assert [loss_task(config) for config in CONFIGS] == [
        *["regression"] * 3, *["classification"] * 2, *["multilabel"] * 2
    ]  # fmt: skip


def test_a_target_that_would_broadcast_is_refused():
    with pytest.raises(ValueError, match=r"target of shape \(7,\) for outputs of shape \(7, 1\)"):
        build_loss(Mse())(torch.zeros(7, 1), torch.zeros(7), torch.ones(7))


class PinballOptions(Named):
    quantile: PositiveFloat = 0.5


def test_a_plug_in():
    @register_loss("test_pinball", task="regression", options=PinballOptions)
    def pinball(outputs, target, options):
        error = target - outputs
        return torch.maximum(options.quantile * error, (options.quantile - 1) * error).mean(1)

    config = options_of("loss", "test_pinball").model_validate({"name": "test_pinball", "quantile": 0.5})
    outputs, target = batch(config)
    weight = torch.full((N,), 1 / N, dtype=torch.float64)
    expected = functional.l1_loss(outputs, target.double()) / 2
    torch.testing.assert_close(build_loss(config)(outputs, target, weight), expected)
    with pytest.raises(ValueError, match="already taken"):
        register_loss("test_pinball", task="regression")


def test_a_plug_in_that_forgets_the_rows_is_refused():
    @register_loss("test_scalar", task="regression")
    def scalar(outputs, target, options):
        return (outputs - target).abs().mean()

    config = options_of("loss", "test_scalar").model_validate("test_scalar")
    with pytest.raises(ValueError, match=r"loss test_scalar: expected one value per row, shape \(7,\), got \(\)"):
        build_loss(config)(torch.zeros(7, 1), torch.zeros(7, 1), torch.ones(7))
