"""A small workload, and a source of costs by which each of its layers takes a second for each of its parts."""

from pipemlp.config.model import ModelConfig
from pipemlp.planning.layer_times import LayerTimes
from pipemlp.planning.layers import describe_layers
from pipemlp.planning.machine import Curve, Machine, Network
from pipemlp.planning.recompute import Recompute
from pipemlp.planning.shapes import DataShape
from pipemlp.planning.workload import Workload

SHAPE = DataShape(num_numeric=8, cardinalities=(), output_width=8, task="regression", num_rows=(64, 0, 0))
MODEL = ModelConfig.model_validate({"hidden": {"width": 8, "depth": 6}})
WORKLOAD = Workload(describe_layers(MODEL, SHAPE), 64, "fp32", "adamw")
PER_SECOND = Network(Curve((0.0, 1.0), (0.0, 1.0)), Curve((0.0, 1.0), (0.0, 1.0)))


class Source:
    """Every layer but the input handling takes a second for each of its three parts."""

    def __init__(self, **machine) -> None:
        free = Network(Curve((0.0,), (0.0,)), Curve((0.0,), (0.0,)))
        settings = {
            "name": "x",
            "is_measured": True,
            "memory_bytes": 1e9,
            "inside": free,
            "between": free,
            "is_gpu": False,
        }
        self.machine = Machine(**settings | machine)

    def times(self, rows: int, recompute: Recompute) -> LayerTimes:
        ones = (0.0, *(1.0,) * 7)
        return LayerTimes(ones, ones, ones)
