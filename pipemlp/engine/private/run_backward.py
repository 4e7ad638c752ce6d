"""A backward straight into torch's engine: what stands before it in Python takes longer than a small layer."""

from torch import Tensor
from torch.autograd import Variable
from torch.autograd.graph import GradientEdge


def run_backward(end: GradientEdge, gradient: Tensor) -> None:
    """As `torch.autograd.backward(end, gradient)`, whose checks we have no use for: one root, with its gradient."""
    Variable._execution_engine.run_backward(
        (end,),
        (gradient,),
        False,  # keep the graph
        False,  # create a graph of the gradients
        (),  # inputs: all leaves
        allow_unreachable=True,
        accumulate_grad=True,
    )
