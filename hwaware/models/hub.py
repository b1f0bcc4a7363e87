"""Files of the Hugging Face hub, or of folders that look like its repositories."""

from __future__ import annotations

from pathlib import Path

from hwaware.errors import UserError, nearest_path
from hwaware.system.offline import no_retries_without_network

#: Before the name of a repository on the hub, as timm writes it: ``hf-hub:USER/NAME``, or ``…@REVISION``.
HUB = "hf-hub:"

WEIGHTS = "model.safetensors"


def weights_file(source: str | Path) -> Path:
    """The file that is meant: a path itself; of a folder, and of ``hf-hub:USER/NAME``, its ``model.safetensors``.

    Raises:
        UserError: the folder or the repository has none, or the hub can't be reached.
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
    except Exception as error:  # the hub's, the network's and its client's errors have no common base
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(
            f"cannot get {WEIGHTS} of '{text}': {reason}\nWithout a network, give a folder that has it."
        ) from error
