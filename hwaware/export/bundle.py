"""What a chip team needs of a network, in a folder that is read back and checked.

Schema 2. ``bundle.json`` has ``schema`` (``hwaware-bundle``), ``version``, ``network``, ``hardware``, ``layers``,
``repairs`` and ``beside`` (numbers of the digital side, such as a reader's threshold of "no answer"):

* a hardware has ``device`` (law and all constants; conductances in µS), ``encoding`` (``mapping``, ``scale``,
  ``kappa``, ``range_fraction``, ``format``, ``headroom_us``, ``parallel``, ``combine``, ``mean_target_ages_s``) and
  ``crossbar`` (its largest number of ``rows`` and ``columns``). Schema 1 had one ``device`` for all layers, which held
  the words of the encoding, too; it is still read.
* a layer has ``hardware`` (its place in that list), ``shape``, ``scale`` (the key of ``s`` in
  ``digital.safetensors``) and ``crossbars``: each with ``key`` in
  ``conductances.safetensors``, ``cell`` (which of a weight's cells), ``group`` (of a grouped convolution), ``rows``
  and ``columns`` (first and one past the last input and output of the group that it holds). A crossbar is a matrix of
  target conductances, inputs by outputs; inputs run over channels, then the kernel, as in the layer's weight. Layers
  whose weights are tied name the same crossbars.
* every target goes into as many cells as the encoding's ``parallel`` says, which are read as their ``combine``. Below,
  g_min and g_max are the device's less the encoding's ``headroom_us``. With ``mean_target_ages_s`` the targets are of
  positions that are read as v *on average* at these ages: see :mod:`hwaware.hardware.encoding.targets`.
* a weight at window position v realises ``s·sinh(κv)/sinh(rκ)`` (κ, r: the encoding's ``kappa``, ``range_fraction``;
  ``s·v/r`` where kappa is null). ``v = (2·g₀ - g_max - g_min)/(g_max - g_min)`` with the mapping ``offset``, else
  ``v = (g₀ - g₁)/(g_max - g_min)``. With ``offset_reference`` each crossbar has one more column, which is not listed:
  its cells all have the target ``(g_max + g_min)/2``, and what they conduct, g_r, is taken off,
  ``v = 2·(g₀ - g_r)/(g_max - g_min)``. With ``bit_sliced`` cell k of n holds a digit to the base b = 2^slice_bits,
  ``d_k = (b - 1)·(g_k - g_min)/(g_max - g_min)``, and ``v = Σ d_k·b^(n - 1 - k)/2^(bits - 1) - 1``.
* ``digital.safetensors`` also holds everything that stays digital, under the network's own keys.
* a repair has ``key``, ``method`` (the class; ``module.Class`` of one's own), ``params``, ``schedule``, ``cost``
  (:class:`hwaware.compensation.costs.Cost`) and ``timetable``: ``start_s`` (age from which a level holds), ``level``
  (its name, null: no repair yet) and the accuracy there: mean and standard deviation in percent over simulated chips,
  on validation samples; ``drift_free`` is that of the exact network. In ``repairs.safetensors`` a level's values are
  ``KEY/LEVEL/NAME`` in half precision, or ``…/codes`` (whole numbers) times ``…/scale``; what is no floating-point
  number is kept as it is. What all levels share is ``KEY/shared/NAME``. What the values do to a layer, or in place of
  a number of ``beside``, is in the docstring of the method's class.
* a number that is not known is null; an infinite one is the text ``inf`` or ``-inf``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hwaware.chip import Chip
from hwaware.errors import UserError
from hwaware.export.repairs import PlannedRepair, for_json, read_repair, stored_repair
from hwaware.hardware import Crossbar, Hardware, Placement, Rule, hardware_from_flat, hardware_from_plain
from hwaware.hardware.encoding.scale import normalised
from hwaware.nn import Measured, analog_layers, convert, to_digital
from hwaware.nn.adapters import refuse_adapters
from hwaware.nn.layers import weight_key
from hwaware.reading import read_json
from hwaware.results.files import new_folder, replacing
from hwaware.results.provenance import commit

SCHEMA, SCHEMA_VERSION = "hwaware-bundle", 2

_MANIFEST = "bundle.json"


@dataclass(frozen=True)
class Bundle:
    """What :func:`read_bundle` found.

    Attributes:
        network: the network's name.
        hardware: of each layer that is in cells.
        targets: conductances (µS) of each layer's cells, each in the shape of the layer's weight.
        scales: of each layer, ``s``.
        digital: everything that is not in cells, under the network's own keys.
        repairs: shipped with it.
        beside: numbers that its digital side needs, such as a reader's threshold of "no answer".

    Raises:
        UserError: a value can't be.
    """

    network: str
    hardware: dict[str, Hardware]
    targets: dict[str, tuple[Tensor, ...]]
    scales: dict[str, Tensor]
    digital: dict[str, Tensor]
    repairs: tuple[PlannedRepair, ...]
    beside: dict[str, Any]

    def __post_init__(self) -> None:
        for name, cells in self.targets.items():
            for cell in cells:
                if not (cell.isfinite() & (cell >= 0)).all():
                    raise UserError(f"layer '{name}' has targets that are no conductances: not finite, or below 0 µS.")
        for what, tensors in {"scale": self.scales, "tensor": self.digital}.items():
            for name, values in tensors.items():
                if not values.isfinite().all() or (what == "scale" and (values < 0).any()):
                    raise UserError(f"'{name}' has a {what} that is not finite, or below 0.")

    @torch.no_grad()
    def install(self, model: nn.Module) -> None:
        """Converts a digital network of the same architecture, and gives it the bundle's weights.

        Raises:
            UserError: it is another network.
        """
        placement = Placement(None, tuple(Rule((name,), one, "the bundle") for name, one in self.hardware.items()))
        convert(model, placement)
        state, layers = dict(self.digital), analog_layers(model)
        for name, cells in self.targets.items():
            if (shape := layers[name].rows_shape) != cells[0].shape:
                to_digital(model)
                wanted = list(cells[0].shape)
                raise UserError(f"the bundle's layer '{name}' has shape {wanted}, the network's {list(shape)}.")
        analog = {weight_key(layer)[0] for layer in layers.values()}
        for key, value in model.state_dict(keep_vars=True).items():
            if id(value) in analog:  # under whichever of its names
                state[key] = value.detach()
        try:
            model.load_state_dict(state)
        except RuntimeError as error:
            raise UserError(f"the bundle is of another network: {' '.join(str(error).split())[:160]}") from None
        for name, cells in self.targets.items():
            hardware = self.hardware[name]
            position = hardware.encoding.position(hardware.device, cells)
            latent = position / hardware.encoding.range_fraction * self.scales[name]
            if hardware.encoding.format.is_fixed_point:  # whose scale has to be found in the codes
                layers[name].set_effective_weight(latent)
            else:
                layers[name].hold(latent)
        Measured(numbers=self.beside).give(model)


def write_bundle(
    folder: str | Path,
    model: nn.Module,
    network: str,
    repairs: Sequence[PlannedRepair] = (),
) -> Path:
    """Writes a converted network as a bundle, all or nothing, and returns the folder.

    Raises:
        UserError: there is something at that path already; the network is not converted.
    """
    from safetensors.torch import save

    folder = Path(folder)
    if folder.exists():
        raise UserError(f"'{folder}' is there already: give a folder that is not.")
    refuse_adapters(model, "a bundle")
    layers: dict[str, dict[str, Any]] = {}
    conductances, analog = {}, analog_layers(model)
    for name, layer in analog.items():
        if layer.is_computed and layer.hardware.encoding.steps:
            raise UserError(
                f"layer '{name}' ({layer.digital_class.__name__}) standardises its weights in every pass, so that no "
                "bundle gives back those of levels or codes: give it the format continuous, or keep it digital."
            )
    held = {weight_key(layer)[0] for layer in analog.values()}
    variables = model.state_dict(keep_vars=True).items()
    digital = {key: value.detach().cpu() for key, value in variables if id(value) not in held}
    places: dict[Hardware, int] = {}
    for name, target in Chip.program(model, seed=0).targets.items():  # which checks the weights
        if target.owner != name:  # tied: the same cells
            layers[name] = layers[target.owner]
            continue
        latent, scale = target.latent.float().cpu(), target.scale.cpu()
        digital[f"{name}/scale"] = scale
        hardware = target.hardware
        cells = hardware.encode(hardware.encoding.window_position(normalised(latent, scale)))
        crossbars = []
        for entry, matrix in _crossbars(name, cells, target.groups, hardware.crossbar):
            crossbars.append(entry)
            conductances[entry["key"]] = matrix
        about = {"hardware": places.setdefault(hardware, len(places)), "shape": list(latent.shape)}
        layers[name] = {**about, "scale": f"{name}/scale", "crossbars": crossbars}
    stored: dict[str, Tensor] = {}
    manifest = {
        "schema": SCHEMA,
        "version": SCHEMA_VERSION,
        "network": network,
        "hardware": [hardware.plain() for hardware in places],
        "layers": layers,
        "repairs": [stored_repair(f"{i}_{one.method.name}", one, model, stored) for i, one in enumerate(repairs)],
        "beside": dict(Measured.of(model).numbers),
        "hwaware": version("hwaware"),
        "commit": commit(),
    }
    with new_folder(folder) as temporary:
        for name, tensors in (("conductances", conductances), ("digital", digital), ("repairs", stored)):
            own = {key: value.contiguous().clone() for key, value in tensors.items()}  # safetensors refuses ties
            with replacing(temporary / f"{name}.safetensors") as file:
                file.write(save(own))
        (temporary / _MANIFEST).write_text(json.dumps(for_json(manifest), indent=1, allow_nan=False))
    return folder


def read_bundle(folder: str | Path) -> Bundle:
    """Reads what :func:`write_bundle` wrote.

    Raises:
        UserError: it is missing, damaged, or of a later schema; a law or a repair of one's own is in a module that was
            not imported yet.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    folder = Path(folder)
    if not (folder / _MANIFEST).is_file():
        raise UserError(f"'{folder}' is no bundle: it has no {_MANIFEST}.")
    try:
        manifest = read_json(folder / _MANIFEST, "manifest")
        found = manifest["schema"], manifest["version"]
    except (KeyError, TypeError) as error:
        raise UserError(f"'{folder}/{_MANIFEST}' is damaged: {' '.join(str(error).split())[:160]}") from None
    if found[0] != SCHEMA or found[1] not in (1, SCHEMA_VERSION):
        raise UserError(
            f"'{folder}' has schema {found[0]} {found[1]}; this package reads {SCHEMA} 1 and {SCHEMA_VERSION}."
        )
    try:
        names = ("conductances", "digital", "repairs")
        conductances, digital, stored = (load_file(folder / f"{name}.safetensors") for name in names)
        hardware = _hardware(manifest)
        targets = {
            name: _cells(layer, conductances, hardware[name].encoding.layout.cells_per_weight)
            for name, layer in manifest["layers"].items()
        }
        scales = {name: digital[layer["scale"]] for name, layer in manifest["layers"].items()}
        digital = {key: value for key, value in digital.items() if not key.endswith("/scale")}
        repairs = tuple(read_repair(entry, stored) for entry in manifest["repairs"])
        beside = {name: None if value is None else float(value) for name, value in manifest.get("beside", {}).items()}
        return Bundle(manifest["network"], hardware, targets, scales, digital, repairs, beside)
    except UserError as error:  # what it names is unknown here
        raise UserError(f"bundle '{folder}': {error}") from None
    except (OSError, SafetensorError, ValueError, LookupError, TypeError, AttributeError, RuntimeError) as error:
        raise UserError(f"bundle '{folder}' is damaged: {' '.join(str(error).split())[:160]}") from None


def _hardware(manifest: dict[str, Any]) -> dict[str, Hardware]:
    """The hardware of each layer."""
    layers = manifest["layers"]
    if manifest["version"] == 1:
        return dict.fromkeys(layers, hardware_from_flat(manifest["device"]))
    found = [hardware_from_plain(plain) for plain in manifest["hardware"]]
    return {name: found[layer["hardware"]] for name, layer in layers.items()}


def _crossbars(
    name: str, cells: Sequence[Tensor], groups: int, crossbar: Crossbar
) -> Iterator[tuple[dict[str, Any], Tensor]]:
    """Each layer's crossbars: entries of the manifest, and matrices of inputs by outputs."""
    for cell, conductance in enumerate(cells):
        for group, weight in enumerate(conductance.flatten(1).chunk(groups)):
            for row in range(0, weight.shape[1], crossbar.rows):
                for column in range(0, weight.shape[0], crossbar.columns):
                    matrix = weight.T[row : row + crossbar.rows, column : column + crossbar.columns]
                    entry = {"key": f"{name}/{cell}/{group}/{row}_{column}", "cell": cell, "group": group}
                    entry["rows"] = [row, row + matrix.shape[0]]
                    entry["columns"] = [column, column + matrix.shape[1]]
                    yield entry, matrix


def _cells(layer: dict[str, Any], conductances: dict[str, Tensor], cells_per_weight: int) -> tuple[Tensor, ...]:
    groups = 1 + max(crossbar["group"] for crossbar in layer["crossbars"])
    outputs, *inputs = layer["shape"]
    found = torch.full((cells_per_weight, groups, outputs // groups, torch.Size(inputs).numel()), torch.nan)
    for crossbar in layer["crossbars"]:
        rows, columns = (slice(*crossbar[what]) for what in ("rows", "columns"))
        found[crossbar["cell"], crossbar["group"], columns, rows] = conductances[crossbar["key"]].T
    if found.isnan().any():
        raise ValueError(f"crossbars of a layer of shape {layer['shape']} do not cover it")
    return tuple(found.view(cells_per_weight, *layer["shape"]))
