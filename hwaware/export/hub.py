"""Sharing a finetuned network: a folder, or a repository on the Hugging Face hub, that plain timm can load.

The folder contains ``model.safetensors`` (effective weights), timm's ``config.json``, ``hardware.json`` (the hardware
of each layer that the weights were trained for), ``rows.csv`` and a model card, ``README.md``, with the accuracies over
the years.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from torch import nn

from hwaware.errors import UserError
from hwaware.export.weights import hardware_of, read_header, write_weights
from hwaware.hardware import placement_from_plain
from hwaware.models import build_model
from hwaware.models.hub import HUB, WEIGHTS, weights_file
from hwaware.nn import Measured, convert
from hwaware.report.labels import age_label, metric_label
from hwaware.report.tables import markdown_table
from hwaware.results.csv import write_rows
from hwaware.results.files import new_folder
from hwaware.results.row import Row
from hwaware.results.summary import summarise
from hwaware.system.offline import no_retries_without_network

#: Names of the metrics on the hub.
_HUB_METRICS = {"top1": "accuracy"}


def save_pretrained(
    folder: str | Path,
    network: nn.Module,
    name: str,
    hardware: dict[str, Any],
    rows: Sequence[Row] = (),
    repository: str | None = None,
    license: str | None = None,
    base_model: str | None = None,
    preprocessing: dict[str, Any] | None = None,
) -> Path:
    """Writes the folder, atomically; returns it.

    Args:
        folder: path of the folder, which must not exist yet.
        network: a digital timm network with effective weights.
        name: name of the network.
        hardware: the hardware that it was finetuned for (:func:`hwaware.export.weights.hardware_of`).
        rows: measurements for the model card.
        repository: future name ``USER/NAME`` on the hub, for the model card; None: only a folder.
        license: license of the weights, by its name on the hub (``apache-2.0``); None: not stated.
        base_model: name on the hub of the network that was finetuned.
        preprocessing: how images were prepared, if it differs from timm's entry for the name.

    Raises:
        UserError: the folder exists, or the network lacks an attribute that timm stores.
    """
    from timm.models import save_for_hf

    if not hasattr(network, "num_features"):
        raise UserError(
            f"network '{name}' has no attribute num_features, which timm's folders have: set self.num_features to the "
            "number of features before its last layer."
        )

    folder = Path(folder)
    if folder.exists():
        raise UserError(f"'{folder}' exists already: give a new folder.")
    with new_folder(folder) as temporary:
        save_for_hf(
            network,
            str(temporary),
            model_args=getattr(network, "made_with", None),
            safe_serialization=True,
            data_config=preprocessing,
        )
        # Written again, with a header.
        ranges = Measured.of(network).ranges
        about: dict[str, Any] = {"ranges": dict(ranges)} if ranges else {}
        if preprocessing:
            about["preprocessing"] = preprocessing
        write_weights(temporary / WEIGHTS, network.state_dict(), name, hardware, about)
        (temporary / "hardware.json").write_text(json.dumps(hardware, indent=1))
        if rows:
            write_rows(temporary / "rows.csv", rows)
        card = model_card(str(folder), name, hardware, rows, repository, license, base_model)
        (temporary / "README.md").write_text(card, encoding="utf-8")
    return folder


def from_pretrained(source: str | Path) -> nn.Module:
    """Loads the network of a folder or of ``hf-hub:USER/NAME``, converted for the hardware that it was finetuned for.

    Returns:
        The network in eval mode, ready for :meth:`hwaware.Chip.program`.

    Raises:
        UserError: there is no such network, or its weights were not finetuned for hardware.
    """
    hardware = finetuned_for(source)
    network = build_model(str(source) if str(source).startswith(HUB) else f"local-dir:{source}", pretrained=True)
    header = read_header(weights_file(source)) or {}
    Measured(ranges=header.get("ranges", {})).give(network)
    convert(network, placement_from_plain(hardware), hardware["corrected"])
    return network.eval()


def finetuned_for(weights: str | Path) -> dict[str, Any]:
    """The hardware that weights were finetuned for.

    Raises:
        UserError: they were not finetuned for hardware.
    """
    hardware = hardware_of(weights)
    if not hardware:
        raise UserError(f"'{weights}' was not finetuned for hardware: give a run's {WEIGHTS}.")
    return hardware


def check_hub(repository: str) -> None:
    """Raises UserError if the repository name or the hub token is invalid, or the hub can't be reached."""
    from huggingface_hub import HfApi, get_token
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    try:
        validate_repo_id(repository)
    except HFValidationError as error:
        raise UserError(f"'{repository}' is not a repository name, USER/NAME: {error}") from None
    local = "Without the hub, --out FOLDER writes the same."
    if get_token() is None:
        raise UserError(f"there is no token of the Hugging Face hub: log in with `hf auth login`. {local}")
    try:
        with no_retries_without_network():
            HfApi().whoami()
    except Exception as error:  # errors of the hub, the network and the client have no common base class
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"the Hugging Face hub can't be reached, or refuses the token: {reason}\n{local}") from error


def push_folder(folder: str | Path, repository: str) -> str:
    """Uploads the folder to a model repository, which is created if necessary; returns its URL.

    To use a private repository, create it on the hub beforehand.
    """
    from huggingface_hub import HfApi

    api = HfApi(library_name="hwaware", library_version=version("hwaware"))
    try:
        found = api.create_repo(repository, exist_ok=True)
        api.upload_folder(repo_id=found.repo_id, folder_path=folder, commit_message="Upload by hwaware push")
    except Exception as error:  # see above
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"the Hugging Face hub refused '{repository}': {reason}") from error
    return str(found)


def model_card(
    folder: str,
    network: str,
    hardware: dict[str, Any],
    rows: Sequence[Row],
    repository: str | None,
    license: str | None,
    base_model: str | None,
) -> str:
    """The text of ``README.md``: the hub's metadata, accuracies over the years, and how to load the network.

    Args:
        network: name of the network.
        folder, hardware, rows, repository, license, base_model: see :func:`save_pretrained`.
    """
    from huggingface_hub import ModelCard, ModelCardData

    main = placement_from_plain(hardware).every[0]
    name = repository.rpartition("/")[2] if repository else f"{network} for {main.device.name}"
    results = _results(rows)
    data = ModelCardData(
        library_name="timm",
        pipeline_tag="image-classification",
        tags=["hwaware", "in-memory-computing", "reram", "hardware-aware-training"],
        license=license,
        base_model=base_model,
        model_name=name if results else None,  # required only with results
        eval_results=results or None,
    )
    source = f"{HUB}{repository}" if repository else folder
    plain = source if repository else f"local-dir:{folder}"
    registers = "import hwaware.models  # registers the network in timm\n" if _is_ours(network) else ""
    body = f"""\
# {name}

{network}, finetuned by hwaware for memory cells of the technology
`{main.device.name}` (mapping `{main.encoding.mapping}`). The weights are the effective weights that the cells realise;
they also run unchanged in plain PyTorch.

## Accuracy over the years

{markdown_table(rows) if rows else "Not measured."}

## In plain timm

```python
{registers}import timm

model = timm.create_model("{plain}", pretrained=True).eval()
```

## On simulated chips

```python
import hwaware

model = hwaware.from_pretrained("{source}")
chip = hwaware.Chip.program(model, seed=2_000_000)
with chip.at(age_s=315_360_000):  # ten years
    logits = model(images)
```

`hwaware drift --config RECIPE --weights {source}` measures the table again. `hardware.json` has the hardware of each
layer, with all constants.
"""
    return str(ModelCard(f"---\n{data.to_yaml()}\n---\n\n{body}"))


def _results(rows: Sequence[Row]) -> list[Any]:
    """Results that the hub shows beside the card: means over chips of the finetuned networks, without repair."""
    from huggingface_hub import EvalResult

    return [
        EvalResult(
            task_type="image-classification",
            dataset_type=one.dataset,
            dataset_name=one.dataset,
            metric_type=_HUB_METRICS.get(one.metric, one.metric),
            metric_value=round(one.mean, 2),
            metric_name=f"{metric_label(one.metric)} (%) at {age_label(one.age_s)}, mean of {one.n_chips} chips of "
            f"{one.device}, {one.mapping}",
        )
        for one in summarise(rows)
        if one.method == "none" and not one.network.startswith("base")
    ]


def _is_ours(network: str) -> bool:
    import timm

    return timm.models.model_entrypoint(network.partition(".")[0]).__module__.startswith("hwaware.")
