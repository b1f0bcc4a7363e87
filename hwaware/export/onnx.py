"""The effective network as an ONNX file, for runtimes other than PyTorch."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import nn

from hwaware.errors import UserError
from hwaware.results.files import replacing
from hwaware.tasks import HardwareAwareTask, ImageClassification


def write_onnx(
    task: HardwareAwareTask,
    network: nn.Module,
    hardware: dict[str, Any] | None,
    path: str | Path,
    differing: Mapping[str, Any] = MappingProxyType({}),
) -> Path:
    """Writes a digital network with input ``images`` (N, C, H, W), preprocessed, and output ``logits`` (N, classes).

    Both are float32, for any N. The file's metadata has ``network`` (its name), ``hardware`` (device and layers that it
    was finetuned for, as JSON; null for none) and ``preprocessing`` (timm's data config, as JSON).

    Args:
        task: the task of the network.
        network: the network to write.
        hardware: the hardware that it was finetuned for.
        path: path of the file.
        differing: how images were prepared, if it differs from timm's entry for the network.

    Raises:
        UserError: the packages for ONNX are not installed; the task is not an image classifier; the path does not end
            in ``.onnx``; ONNX can't express the network.
    """
    path = Path(path)
    if path.suffix != ".onnx":
        raise UserError(f"onnx: --out '{path}' must end in .onnx.")
    if not isinstance(task, ImageClassification):
        raise UserError(f"onnx: {type(task).__name__} can't be written; image classifiers can.")
    try:
        import onnx
        import onnxscript  # noqa: F401 - the exporter needs it, and its own error message is unclear
    except ImportError as error:
        raise UserError(f"onnx: {error}: pip install 'hwaware[onnx]'.") from None
    preprocessing = {**task.data_config, **differing}
    network = network.cpu().float().eval()
    images = torch.zeros(2, *preprocessing["input_size"])  # 2, since a batch of one would become a constant
    batch = {0: torch.export.Dim("batch")}
    try:
        with _quiet():
            program = torch.onnx.export(
                network,
                (images,),
                input_names=["images"],
                output_names=["logits"],
                dynamic_shapes=(batch,),
                dynamo=True,
            )
    except torch.onnx.errors.OnnxExporterError as error:
        reason = str(error.__cause__ or error).strip().splitlines()[0]
        raise UserError(f"onnx: {task.network_name} can't be written: {reason}") from error
    about = {"network": task.network_name, "hardware": hardware, "preprocessing": preprocessing}
    texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in about.items()}
    assert program is not None  # always so with dynamo
    onnx.helper.set_model_props(model := program.model_proto, texts)
    with replacing(path) as file:
        file.write(model.SerializeToString())
    return path


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Suppresses the exporter's log, which goes to the terminal in any case."""
    log, level = logging.getLogger("torch.onnx"), logging.getLogger("torch.onnx").level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)
