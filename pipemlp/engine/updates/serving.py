"""What updates by parameter servers have in common: what a checkpoint keeps of them."""

from collections.abc import Sequence

from torch import Tensor

from pipemlp.engine.updates.exchanging import HasState, state_of
from pipemlp.engine.updates.update import Update
from pipemlp.gradients.parameter_server import ParameterServer

SERVER = "server"


class ServingUpdate(Update):
    """Serves a share of the parameters, and pushes gradients to all servers; while nothing is on its way:"""

    _served: ParameterServer
    _pushes: Sequence[HasState]

    def state(self) -> dict[str, Tensor]:
        """What is served here, and what the pushes left out."""
        served = {f"{SERVER}.{name}": value for name, value in self._served.state().items()}
        return served | state_of(self._pushes, "push")

    def load_state(self, state: dict[str, Tensor]) -> None:
        """See `Update`; the optimizer's tensors are made if there has been no step yet."""
        prefix = f"{SERVER}."
        self._served.load_state(
            {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
        )
        super().load_state(state)
        self._served.write()
