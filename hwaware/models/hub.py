"""Weight files from the Hugging Face hub, or from folders with the same layout."""

from __future__ import annotations

from pathlib import Path

from hwaware.errors import UserError, nearest_path
from hwaware.system.offline import no_retries_without_network

#: Prefix of the name of a repository on the hub, as in timm: ``hf-hub:USER/NAME``, or ``…@REVISION``.
HUB = "hf-hub:"

WEIGHTS = "model.safetensors"


def weights_file(source: str | Path) -> Path:
    """The weight file of a source: the path itself, or ``model.safetensors`` of a folder or of ``hf-hub:USER/NAME``.

    Raises:
        UserError: the folder or repository has no such file, or the hub can't be reached.
    """
    text, path = str(source), Path(source)
    if not text:
        raise UserError("the name of the file of weights is empty: give a file, or null.")
    if not text.startswith(HUB):
        if path.is_dir() and not (path / WEIGHTS).is_file():
            raise UserError(f"the folder '{path}' has no {WEIGHTS}. {nearest_path(path / WEIGHTS)}".rstrip())
        return path / WEIGHTS if path.is_dir() else path
    from huggingface_hub import hf_hub_download

    repository, _, revision = text.removeprefix(HUB).partition("@")
    try:
        with no_retries_without_network():
            return Path(hf_hub_download(repository, WEIGHTS, revision=revision or None))
    except Exception as error:  # errors of the hub, the network and the client have no common base class
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(
            f"cannot get {WEIGHTS} of '{text}': {reason}\nWithout a network, give a folder that has it."
        ) from error
