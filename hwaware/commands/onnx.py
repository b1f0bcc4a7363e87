"""``hwaware onnx``: the exact network for other runtimes."""

from __future__ import annotations

from hwaware.commands.steps import given_network, the_one
from hwaware.export.onnx import write_onnx
from hwaware.export.weights import hardware_of, preprocessing_of
from hwaware.tasks import HardwareAwareTask


def run(task: HardwareAwareTask, out: str, weights: str | None = None, ckpt_path: str | None = None) -> None:
    """Writes the exact network, with effective weights, as an ONNX file.

    Args:
        task: the task; its pretrained weights are written if no others are given.
        out: path of the file, ending in ``.onnx``; an existing file is replaced.
        weights: a run's ``model.safetensors``, or a plain file (timm, transformers).
        ckpt_path: a run's ``.ckpt`` instead; ``last`` is the recipe's latest.
    """
    file = the_one(weights, ckpt_path)
    network = given_network(task, file)
    hardware, seen = (hardware_of(file), preprocessing_of(file)) if file else (None, {})
    print(f"network: {write_onnx(task, network, hardware, out, seen)}", flush=True)
