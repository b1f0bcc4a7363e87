"""Handing a finetuned network on: a folder, or a repository on the Hugging Face hub, that plain timm loads.

The folder has ``model.safetensors`` (effective weights), timm's ``config.json``, ``hardware.json`` (what
holds each layer, as they were trained for it), ``rows.csv`` and a model card, ``README.md``, with the accuracies over
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

#: Metrics by their names on the hub.
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
    """Writes the folder, all or nothing, and returns it.

    Args:
        folder: must not exist yet.
        network: timm's, digital, with effective weights.
        name: the network's.
        hardware: what it was finetuned for (:func:`hwaware.export.weights.hardware_of`).
        rows: measurements to show.
        repository: ``USER/NAME`` on the hub where it is going to be, for the model card; None: it stays a folder.
        license: of the weights, by its name on the hub (``apache-2.0``); None leaves it open.
        base_model: the hub's name of what was finetuned.
        preprocessing: how images were prepared for it, where that is not as timm's entry for the name has it.

    Raises:
        UserError: the folder exists.
    """
    from timm.models import save_for_hf

    folder = Path(folder)
    if folder.exists():
        raise UserError(f"'{folder}' is there already: give a folder that is not.")
    with new_folder(folder) as temporary:
        save_for_hf(
            network,
            str(temporary),
            model_args=getattr(network, "made_with", None),
            safe_serialization=True,
            data_config=preprocessing,
        )
        # Once more, with a header.
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
    """The network of a folder, or of ``hf-hub:USER/NAME``, converted for the hardware that it was finetuned for.

    Returns:
        The network in eval mode, ready for :meth:`hwaware.Chip.program`.

    Raises:
        UserError: there is none, or its weights were not finetuned for hardware.
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
        UserError: for none.
    """
    hardware = hardware_of(weights)
    if not hardware:
        raise UserError(f"'{weights}' was not finetuned for hardware: give a run's {WEIGHTS}.")
    return hardware


def check_hub(repository: str) -> None:
    """Raises UserError for no name of a repository, no valid token of the Hugging Face hub, or no network."""
    from huggingface_hub import HfApi, get_token
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    try:
        validate_repo_id(repository)
    except HFValidationError as error:
        raise UserError(f"'{repository}' is no name of a repository, USER/NAME: {error}") from None
    local = "Without the hub, --out FOLDER writes the same."
    if get_token() is None:
        raise UserError(f"there is no token of the Hugging Face hub: log in with `hf auth login`. {local}")
    try:
        with no_retries_without_network():
            HfApi().whoami()
    except Exception as error:  # the hub's, the network's and its client's errors have no common base
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"the Hugging Face hub can't be reached, or refuses the token: {reason}\n{local}") from error


def push_folder(folder: str | Path, repository: str) -> str:
    """Uploads the folder as a model repository, which is made where there is none, and returns its address.

    A repository that is to be private is made so on the hub beforehand.
    """
    from huggingface_hub import HfApi

    api = HfApi(library_name="hwaware", library_version=version("hwaware"))
    try:
        found = api.create_repo(repository, exist_ok=True)
        api.upload_folder(repo_id=found.repo_id, folder_path=folder, commit_message="Upload by hwaware push")
    except Exception as error:  # see above
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"the Hugging Face hub did not take '{repository}': {reason}") from error
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
        network: its name.
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
        model_name=name if results else None,  # only with results
        eval_results=results or None,
    )
    source = f"{HUB}{repository}" if repository else folder
    plain = source if repository else f"local-dir:{folder}"
    registers = "import hwaware.models  # registers the network in timm\n" if _is_ours(network) else ""
    body = f"""\
# {name}

{network}, finetuned by hwaware for memory cells of the technology
`{main.device.name}` (mapping `{main.encoding.mapping}`). The weights are those that the cells are to realise: exact,
they run anywhere as they are.

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

`hwaware drift --config RECIPE --weights {source}` measures the table again. `hardware.json` has what holds each layer,
with all constants.
"""
    return str(ModelCard(f"---\n{data.to_yaml()}\n---\n\n{body}"))


def _results(rows: Sequence[Row]) -> list[Any]:
    """What the hub shows beside the card: the finetuned networks' means over chips, unrepaired."""
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
