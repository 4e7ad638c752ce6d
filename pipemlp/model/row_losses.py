"""The built-in losses, each as a function of outputs, target and options that gives one value per row."""

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional

from pipemlp.config.model import BinaryCrossEntropy, CrossEntropy, Huber, Mae, Mse


def mse(outputs: Tensor, target: Tensor, options: Mse) -> Tensor:
    """Squared error of outputs [n, k] against target [n, k], mean over k."""
    return (outputs - _like(target, outputs)).square().mean(1)


def mae(outputs: Tensor, target: Tensor, options: Mae) -> Tensor:
    """Absolute error of outputs [n, k] against target [n, k], mean over k."""
    return (outputs - _like(target, outputs)).abs().mean(1)


def huber(outputs: Tensor, target: Tensor, options: Huber) -> Tensor:
    """Huber's loss (1964) of outputs [n, k] against target [n, k], mean over k."""
    return functional.huber_loss(outputs, _like(target, outputs), reduction="none", delta=options.delta).mean(1)


def cross_entropy(outputs: Tensor, target: Tensor, options: CrossEntropy) -> Tensor:
    """Negative log-likelihood of class indices [n] under logits [n, k].

    With label smoothing, the target is the given class mixed with the uniform distribution (Szegedy et
    al., 2016). A class weight multiplies the loss of the rows of that class, and changes no divisor.
    """
    losses = functional.cross_entropy(outputs, target, reduction="none", label_smoothing=options.label_smoothing)
    if options.class_weights is None:
        return losses
    return losses * _factors(options.class_weights, outputs.dtype, outputs.device)[target]


def binary_cross_entropy(outputs: Tensor, target: Tensor, options: BinaryCrossEntropy) -> Tensor:
    """Binary cross-entropy of labels 0 or 1 [n, k] under logits [n, k], mean over k.

    A positive weight multiplies the loss of its label where the label is 1.
    """
    factors = options.positive_weights
    positive = None if factors is None else _factors(factors, outputs.dtype, outputs.device)
    return functional.binary_cross_entropy_with_logits(
        outputs, _like(target, outputs), reduction="none", pos_weight=positive
    ).mean(1)


def _like(target: Tensor, outputs: Tensor) -> Tensor:
    """The target in the type of the outputs; shapes must agree, for broadcasting would hide a mistake."""
    if target.shape != outputs.shape:
        raise ValueError(f"target of shape {tuple(target.shape)} for outputs of shape {tuple(outputs.shape)}")
    return target.to(outputs.dtype)


@lru_cache(maxsize=16)
def _factors(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    with torch.inference_mode(False):  # evaluation may ask first, and training keeps them for its backward
        return torch.tensor(values, dtype=dtype, device=device)
