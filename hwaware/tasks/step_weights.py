"""How a run's training steps compute the weights in cells."""

from __future__ import annotations

from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torch import nn

from hwaware.errors import UserError
from hwaware.training import Way, WeightsTogether, choose_way, install_way, remove_way


class StepWeights:
    """Computes the weights of each training step by one way, by which a run goes on as it began.

    Attributes:
        way: of the run; None: before training.
    """

    def __init__(self) -> None:
        self.way: Way | None = None
        self._together: WeightsTogether | None = None

    def choose(self, network: nn.Module, wanted: Way | None, sharded: bool) -> None:
        """As the recipe says, else as the run began, else as is best here.

        Args:
            network: converted, on its device.
            wanted: by the recipe.
            sharded: whether the network's parameters lie in shards.

        Raises:
            UserError: that way needs whole weights.
        """
        if sharded:
            if wanted not in (None, "by_layer"):
                raise UserError(f"weights_way '{wanted}' needs whole weights, and fsdp2 shards them: drop it.")
            self.way = "by_layer"
            return
        began = self.way
        self.way = choose_way(network, wanted or began)
        if began is not None and self.way != began:
            rank_zero_warn(f"weights_way: the run began '{began}' and goes on '{self.way}', so not bit for bit.")
        self._together = install_way(network, self.way)

    def compute(self) -> None:
        """Computes a step's weights, where they are computed before the forward pass."""
        if self._together is not None:
            self._together()

    def end(self, network: nn.Module) -> None:
        """Lets go of what training needed."""
        remove_way(network)
        self._together = None
