"""What updates by parameter servers have in common: what a checkpoint keeps of them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from torch import Tensor, nn

from pipemlp.engine.share import Named, Run, Share, runs_between
from pipemlp.engine.updates.exchanging import HasState, state_of
from pipemlp.engine.updates.update import Update
from pipemlp.gradients.parameter_server import ParameterServer
from pipemlp.gradients.parts import part_of


class ServingUpdate(Update):
    """Serves a share of the parameters, and pushes gradients to all servers; while nothing is on its way:"""

    _served: ParameterServer
    _pushes: Sequence[HasState]
    _members: Sequence[Sequence[nn.Parameter]]
    """The parameters of each bucket."""

    def state(self) -> dict[str, Tensor]:
        """What the pushes left out."""
        return state_of(self._pushes, "push")

    def shares(self, named: Mapping[nn.Parameter, Named], replica: int) -> tuple[list[Share], bool]:
        """What is served here: a part of every bucket."""
        served, runs, offset = self._served, list[Run](), 0
        for members in self._members:
            own = part_of(sum(parameter.numel() for parameter in members), served.num_servers, served.index)
            for run in runs_between([named[parameter] for parameter in members], own.start, own.stop):
                runs.append(replace(run, offset=run.offset + offset))
            offset += own.stop - own.start
        return [Share(served.values, served.optimizer_state, runs)], False
