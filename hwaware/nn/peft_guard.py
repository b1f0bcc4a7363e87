"""peft's adapters and networks in cells; imported where peft is.

peft's adapters run beside a converted layer as beside a digital one. Merging, it would add to the *latent* weights,
which are no weights where cells have a curve or levels: the outputs would be others.
"""

from __future__ import annotations

import functools
from typing import Any

from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer
from torch import nn

from hwaware.errors import UserError
from hwaware.nn.layers import AnalogLayer


def digital_parts(model: nn.Module) -> list[str]:
    """Names of the modules of peft's adapters, which stay digital beside the layers that they wrap."""
    found = []
    for name, module in model.named_modules():
        if isinstance(module, BaseTunerLayer):
            parts = (part for part in module.adapter_layer_names if isinstance(getattr(module, part, None), nn.Module))
            found += [f"{name}.{part}".lstrip(".") for part in parts]
    return found


def _refuse_merging(tuner: Any) -> None:
    for name, module in tuner.model.named_modules():
        if isinstance(module, BaseTunerLayer) and isinstance(module.get_base_layer(), AnalogLayer):
            raise UserError(
                f"layer '{name}' is in cells, and peft would merge its adapter into the latent weights: leave it "
                "beside them (it runs there), or merge first and convert then (to_digital goes back)."
            )


def _guard(cls: type) -> None:
    """Lets a tuner's merging ask first. A subclass's own check calls this one, or has one of its own."""
    check = cls._check_merge_allowed  # type: ignore[attr-defined]

    @functools.wraps(check)
    def guarded(self: Any, *args: Any, **kwargs: Any) -> Any:
        _refuse_merging(self)
        return check(self, *args, **kwargs)

    cls._check_merge_allowed = guarded  # type: ignore[attr-defined]


_guard(BaseTuner)
