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
    """Writes a digital network: ``images`` (N, C, H, W), preprocessed, to ``logits`` (N, classes), float32, any N.

    The file's metadata has ``network`` (its name), ``hardware`` (device and layers that it was finetuned for, as JSON;
    null for none) and ``preprocessing`` (timm's data config, as JSON).

    Args:
        task: whose network.
        network: to write.
        hardware: that it was finetuned for.
        path: of the file.
        differing: how images were prepared, where that is not as timm's entry for the network has it.

    Raises:
        UserError: the packages for it are not installed; not an image classifier; the path does not end in ``.onnx``;
            the network has something that ONNX can't express.
    """
    path = Path(path)
    if path.suffix != ".onnx":
        raise UserError(f"onnx: --out '{path}' must end in .onnx.")
    if not isinstance(task, ImageClassification):
        raise UserError(f"onnx: {type(task).__name__} can't be written; image classifiers can.")
    try:
        import onnx
        import onnxscript  # noqa: F401 - the exporter's own need, which it would tell of in its own words
    except ImportError as error:
        raise UserError(f"onnx: {error}: pip install 'hwaware[onnx]'.") from None
    preprocessing = {**task.data_config, **differing}
    network = network.cpu().float().eval()
    images = torch.zeros(2, *preprocessing["input_size"])  # 2: a batch of one would be taken for a constant
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
    assert program is not None  # as it is with dynamo
    onnx.helper.set_model_props(model := program.model_proto, texts)
    with replacing(path) as file:
        file.write(model.SerializeToString())
    return path


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's diary, which goes to the terminal whatever comes of it."""
    log, level = logging.getLogger("torch.onnx"), logging.getLogger("torch.onnx").level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)
