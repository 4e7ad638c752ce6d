"""Twelve MLPs of uneven layers, with shapes that somebody published, for the comparison of cuts.

`source` says who, `scaled` what was made smaller (or left out) so that two CPU cores are enough.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from pipemlp.config.root import RunConfig
from pipemlp.planning.layers import LayerDescription, describe_layers
from pipemlp.planning.resolve import resolve
from pipemlp.planning.shapes import DataShape, Task

NUM_MICRO_BATCHES = 8
ADAMW: dict[str, object] = {"name": "adamw", "lr": 1e-4}
SGD: dict[str, object] = {"name": "sgd", "lr": 1e-3}
TASKS: dict[str, Task] = {
    "mse": "regression",
    "cross_entropy": "classification",
    "binary_cross_entropy": "multilabel",
}
CRITEO_CODES = (1460, 583, 10131227, 2202608, 305, 24, 12517, 633, 3, 93145, 5683, 8351593, 3194, 27, 14992, 5461306)
CRITEO_CODES += (10, 5652, 2173, 4, 7046547, 18, 15, 286181, 105, 142572)
"""Of the 26 categorical columns of the Kaggle set, as DLRM's reference lists them (--arch-embedding-size)."""


def _capped(codes: Sequence[int], most: int) -> tuple[int, ...]:
    return tuple(min(own, most) for own in codes)


@dataclass(frozen=True)
class UnevenModel:
    """A model and the size of its micro-batches.

    Args:
        name: for tables.
        source: who published the shape.
        scaled: what is smaller here.
        inputs: numeric columns.
        hidden: as `model.hidden` has it.
        outputs: of the head.
        loss: its name.
        settings: of the section `model` besides.
        cardinalities: of categorical columns, which get embeddings as wide as pipemlp's rule says.
        optimizer: the section.
        rows: of a micro-batch.
    """

    name: str
    source: str
    scaled: str
    inputs: int
    hidden: Sequence[object]
    outputs: int
    loss: str
    settings: dict[str, object] = field(default_factory=dict)
    cardinalities: tuple[int, ...] = ()
    optimizer: dict[str, object] = field(default_factory=lambda: ADAMW)
    rows: int = 64

    @property
    def shape(self) -> DataShape:
        """Of data that this model is for."""
        return DataShape(self.inputs, self.cardinalities, self.outputs, TASKS[self.loss], (10**6, 0, 0))

    def described(self) -> tuple[RunConfig, tuple[LayerDescription, ...]]:
        """The resolved configuration and the layers; no data needed."""
        config = RunConfig.model_validate(
            {
                "data": {"source": "npy", "path": "none.npy", "target": "0"},
                "model": {"hidden": list(self.hidden), **self.settings},
                "loss": self.loss,
                "training": {"steps": 1, "global_batch_size": self.rows * NUM_MICRO_BATCHES},
                "optimizer": self.optimizer,
                "parallel": {"stages": 2, "micro_batches": NUM_MICRO_BATCHES},
            }
        )
        resolved, _ = resolve(config, self.shape)
        return resolved, describe_layers(resolved.model, self.shape)


def _mixer(width: int, inner: int, depth: int) -> list[object]:
    wide = {"width": inner, "activation": "gelu"}
    return [layer for _ in range(depth) for layer in (wide, {"width": width, "activation": "identity"})]


MODELS = (
    UnevenModel(
        "DLRM",
        "MLPerf's DLRM: tables and numbers side by side (--arch-interaction-op cat), 1024, 1024, 512, 256, 1; SGD; "
        "tables of the Criteo Kaggle columns (facebookresearch/dlrm; Naumov et al. 2019)",
        "tables hashed to 10,000 codes and at most 50 values wide instead of 128; no bottom MLP",
        13,
        [1024, 1024, 512, 256],
        1,
        "binary_cross_entropy",
        cardinalities=_capped(CRITEO_CODES, 10_000),
        optimizer=SGD,
    ),
    UnevenModel(
        "deep tower",
        "Meta's model I: tables and 43 layers of width 682 on average (Mudigere et al. 2022, table of target models)",
        "width 256; tables of the Criteo Kaggle columns hashed to 10,000 codes; SGD",
        13,
        [{"width": 256, "repeat": 43}],
        1,
        "binary_cross_entropy",
        cardinalities=_capped(CRITEO_CODES, 10_000),
        optimizer=SGD,
    ),
    UnevenModel(
        "Wide&Deep",
        "deep part: embeddings of 32 values, 1,200 side by side, 1024, 512, 256, 1 (Cheng et al. 2016, figure 4)",
        "37 columns of 210 codes, which is where pipemlp's rule gives 32 values; 16 numeric ones",
        16,
        [1024, 512, 256],
        1,
        "binary_cross_entropy",
        cardinalities=(210,) * 37,
    ),
    UnevenModel(
        "YouTube",
        "candidate generation, the deepest tower: 2048, 1024, 512, 256, softmax (Covington et al. 2016, figure 6)",
        "4,096 videos instead of a million; inputs 576: watch and search vectors of 256, 64 for the rest",
        576,
        [2048, 1024, 512, 256],
        4096,
        "cross_entropy",
    ),
    UnevenModel(
        "autoencoder",
        "digits: 784, 1000, 500, 250, 30, 250, 500, 1000, 784 (Hinton, Salakhutdinov 2006)",
        "nothing; tanh for their logistic units",
        784,
        [1000, 500, 250, {"width": 30, "activation": "identity"}, 250, 500, 1000],
        784,
        "binary_cross_entropy",
        {"activation": "tanh"},
    ),
    UnevenModel(
        "DeepRecommender",
        "Netflix: n, 512, 512, 1024, 512, 512, n with n = 17,768 films (Kuchaiev, Ginsburg 2017)",
        "n = 4,442, a quarter; SiLU for SELU; no dropout",
        4442,
        [512, 512, 1024, 512, 512],
        4442,
        "mse",
        {"activation": "silu"},
    ),
    UnevenModel(
        "Uno",
        "CANDLE Uno, the drug descriptors' way: 5,270, three of 1000, three of 1000, 1 (ECP-CANDLE/Benchmarks, Pilot1)",
        "the other ways, which join it in the middle, are left out",
        5270,
        [{"width": 1000, "repeat": 6}],
        1,
        "mse",
    ),
    UnevenModel(
        "Eurlex-4K",
        "5,000 bag-of-words features, 3,993 labels (Extreme Classification Repository, Bhatia et al. 2016)",
        "inputs and labels as published; the eight residual layers of 512 between are ours",
        5000,
        [512, {"width": 512, "repeat": 7, "block": "residual"}],
        3993,
        "binary_cross_entropy",
    ),
    UnevenModel(
        "acoustic model",
        "Switchboard: 429 (11 frames of 39), seven of 2048, 9,304 states (Seide, Li, Yu 2011)",
        "hidden layers and states divided by 4; ReLU for logistic units",
        429,
        [{"width": 512, "repeat": 7}],
        2326,
        "cross_entropy",
    ),
    UnevenModel(
        "MLP-Mixer",
        "the channel MLPs of S/16: 8 x (512, 2048, 512), GELU between, 1,000 classes (Tolstikhin et al. 2021, table 1)",
        "widths halved; without token mixing, norms and skips",
        256,
        _mixer(256, 1024, 8),
        1000,
        "cross_entropy",
    ),
    UnevenModel(
        "ClimSim",
        "surrogate of cloud physics: 124, 768, 640, 512, 640, 640, 128, 128 (Yu et al. 2023, the MLP baseline)",
        "leaky ReLU of slope 0.01",
        124,
        [768, 640, 512, 640, 640, 128],
        128,
        "mse",
        {"activation": "leaky_relu"},
    ),
    UnevenModel(
        "gated stack",
        "GEGLU feed-forwards of T5 base: 12 of width 768, inner 2048, vocabulary 32,128 (Shazeer 2020)",
        "all divided by 4; the vocabulary's head stays with the stack, the attention does not",
        192,
        [{"width": 192, "repeat": 12}],
        8032,
        "cross_entropy",
        {"block": {"name": "gated", "expansion": 512 / 192}, "activation": "gelu", "norm": "rms"},
    ),
)
