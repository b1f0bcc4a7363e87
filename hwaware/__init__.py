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
from typing import Any

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
