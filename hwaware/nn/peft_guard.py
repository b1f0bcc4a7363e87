"""Guards peft's adapters on converted networks; imported only if peft is.

peft's adapters run beside an analog layer as they do beside a digital one. Merging would add them to the *latent*
weights, which differ from the effective weights if cells have an I-V curve or levels: the outputs would change.
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
                f"layer '{name}' is analog, and peft would merge its adapter into the latent weights: keep it "
                "unmerged (it runs beside the layer), or merge first and convert afterwards (to_digital goes back)."
            )


def _guard(cls: type) -> None:
    """Adds the check to a tuner's merging. A subclass's own check calls this one or gets its own guard."""
    check = cls._check_merge_allowed  # type: ignore[attr-defined]

    @functools.wraps(check)
    def guarded(self: Any, *args: Any, **kwargs: Any) -> Any:
        _refuse_merging(self)
        return check(self, *args, **kwargs)

    cls._check_merge_allowed = guarded  # type: ignore[attr-defined]


_guard(BaseTuner)
