"""Hardware-aware finetuning of pretrained networks for ReRAM in-memory computing.

In plain Python::

    import hwaware

    hardware = hwaware.load_hardware("reram_cmo", mapping="differential")
    print(hwaware.convert(model, hardware))
    for images, labels in loader:  # train as you like
        hwaware.install_noise(model, hwaware.TrainingNoise())
        ...
    chip = hwaware.Chip.program(model, seed=2_000_000)
    with chip.at(age_s=315_360_000):
        logits = model(images)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the same for type checkers
    from hwaware.chip import Chip as Chip
    from hwaware.chip import drift_free as drift_free
    from hwaware.errors import UserError as UserError
    from hwaware.evaluation.evaluate import evaluate as evaluate
    from hwaware.export.bundle import read_bundle as read_bundle
    from hwaware.export.hub import from_pretrained as from_pretrained
    from hwaware.hardware import Converters as Converters
    from hwaware.hardware import Crossbar as Crossbar
    from hwaware.hardware import Device as Device
    from hwaware.hardware import Encoding as Encoding
    from hwaware.hardware import Hardware as Hardware
    from hwaware.hardware import Placement as Placement
    from hwaware.hardware import Rule as Rule
    from hwaware.hardware import device_names as device_names
    from hwaware.hardware import load_device as load_device
    from hwaware.hardware import load_hardware as load_hardware
    from hwaware.nn import effective_state_dict as effective_state_dict
    from hwaware.nn import to_digital as to_digital
    from hwaware.nn.convert import convert as convert
    from hwaware.results.row import RunLabels as RunLabels
    from hwaware.training import AgeDistribution as AgeDistribution
    from hwaware.training import RetentionLoss as RetentionLoss
    from hwaware.training import TrainingNoise as TrainingNoise
    from hwaware.training import clip_weights_ as clip_weights_
    from hwaware.training import install_noise as install_noise
    from hwaware.training import install_retention as install_retention
    from hwaware.training import remove_noise as remove_noise
    from hwaware.training import retention_loss as retention_loss

_PUBLIC = {
    "AgeDistribution": "hwaware.training",
    "Chip": "hwaware.chip",
    "RetentionLoss": "hwaware.training",
    "RunLabels": "hwaware.results.row",
    "TrainingNoise": "hwaware.training",
    "UserError": "hwaware.errors",
    "clip_weights_": "hwaware.training",
    "convert": "hwaware.nn",
    "Converters": "hwaware.hardware",
    "Crossbar": "hwaware.hardware",
    "Device": "hwaware.hardware",
    "Encoding": "hwaware.hardware",
    "Hardware": "hwaware.hardware",
    "Placement": "hwaware.hardware",
    "Rule": "hwaware.hardware",
    "device_names": "hwaware.hardware",
    "drift_free": "hwaware.chip",
    "effective_state_dict": "hwaware.nn",
    "evaluate": "hwaware.evaluation.evaluate",
    "from_pretrained": "hwaware.export.hub",
    "install_noise": "hwaware.training",
    "install_retention": "hwaware.training",
    "load_device": "hwaware.hardware",
    "load_hardware": "hwaware.hardware",
    "read_bundle": "hwaware.export.bundle",
    "remove_noise": "hwaware.training",
    "retention_loss": "hwaware.training",
    "to_digital": "hwaware.nn",
}

__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    # Lazily: `hwaware --help` should not pay for torch.
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'hwaware' has no attribute '{name}'")


def __dir__() -> list[str]:
    return __all__
