"""The bundle: a folder with everything that a chip team needs, which is read back and checked.

Schema 3; ``examples/read_bundle.py`` reads it without this package. ``bundle.json`` has ``schema``
(``hwaware-bundle``), ``version``, ``network``, ``hardware``, ``decoding``, ``layers``, ``repairs`` and ``beside``
(numbers of the digital side, such as a "no answer" threshold). Older schemas:
:mod:`hwaware.export.older_bundles`.

* a hardware has ``device`` (law and all constants; conductances in µS), ``encoding`` (``mapping``, ``scale``,
  ``kappa``, ``range_fraction``, ``format``, ``headroom_us``, ``parallel``, ``combine``, ``mean_target_ages_s``) and
  ``crossbar``: ``rows`` and ``columns`` of an array, ``converters`` (null: none) and, if they differ from the default,
  ``wires`` and ``read_noise``; see :mod:`hwaware.hardware`.
* ``decoding``, with one entry per hardware, has the numbers for reading its cells. With parallel cells combined (the
  encoding's ``combine``), the window position is ``v = at_low + Σ gains[k]·(g_k - low_us)/(high_us - low_us)``. If
  there is one gain more than cells of a weight, the last one belongs to the array's reference column. The weight is
  ``s·sinh(κv)/sinh(rκ)``, or ``s·v/r`` if κ is null (κ: ``kappa``, r: ``range_fraction``). Targets encode the positions
  in the list ``positions`` for evenly spaced v from -1 to 1, linear in between. The list is ``[-1, 1]``, unless targets
  are chosen so that weights are correct *on average* over ``mean_target_ages_s``.
* a layer has ``hardware`` (index in that list), ``shape`` of its weight (outputs, inputs of a group, kernel),
  ``groups``, ``scale`` (the key of ``s`` in ``digital.safetensors``), ``key`` and ``arrays``: the numbers of arrays by
  blocks of groups, parts of an output's inputs, outputs side by side, and continued columns of one output. Arrays are
  numbered in this order, with the last one running fastest. ``ranges`` of its converters (null: none) are ``x_max`` of
  inputs and ``y_max`` of arrays' outputs: a number, or a list with one for each part of the inputs. If digits of
  weights or slices of inputs are converted separately, y_max belongs to the lowest one; the others have it times their
  weight. Tied layers have the same key.
* ``conductances.safetensors`` has, under that key, the targets (µS) of all cells ``[arrays, rows, columns]``, parallel
  cells and reference columns included; NaN is no cell. Row 0 is nearest the columns' ends, column 0 nearest the row
  drivers.
* ``places.safetensors`` has their contents: ``KEY/rows`` ``[arrays, rows, 2]``: the layer's input channel, counted over
  all groups, and the kernel's tap; ``KEY/columns`` ``[arrays, columns, 3]``: the output, the index of the cell in its
  weight (plus and minus, or a digit), and the index among parallel cells. -1 is unused. A reference column has the
  output -1 and, as cell index, the number of cells per weight. Partial sums of the same output are added. There is no
  cell where a row of one group crosses a column of another.
* ``digital.safetensors`` also contains everything that stays digital, under the network's own keys.
* a repair has ``key``, ``method`` (the class; ``module.Class`` for a custom one), ``params``, ``schedule``, ``cost``
  (:class:`hwaware.compensation.costs.Cost`) and ``timetable``: ``start_s`` (age (s) from which a level is used),
  ``level`` (its name; null: no repair yet) and the accuracy there: mean and standard deviation (percent) over simulated
  chips, on validation samples; ``drift_free`` is the drift-free accuracy. In ``repairs.safetensors`` a level's values
  are ``KEY/LEVEL/NAME`` in half precision, or ``…/codes`` (integers) times ``…/scale``; integer and boolean tensors are
  stored unchanged. Values that all levels share are ``KEY/shared/NAME``. The docstring of the method's class says how
  they change a layer or a number of ``beside``.
* an unknown number is null; an infinite one is the text ``inf`` or ``-inf``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hwaware.chip import Chip
from hwaware.errors import UserError, nearest_path
from hwaware.export import older_bundles
from hwaware.export.arrays import Layer, from_arrays, to_arrays
from hwaware.export.repairs import PlannedRepair, for_json, read_repair, stored_repair
from hwaware.hardware import Hardware, Placement, Ranges, Rule, hardware_from_flat, hardware_from_plain
from hwaware.hardware.crossbar.contents import Contents
from hwaware.hardware.encoding.scale import normalised
from hwaware.nn import Measured, analog_layers, convert, to_digital
from hwaware.nn.adapters import refuse_adapters
from hwaware.nn.layers import weight_key
from hwaware.results.files import new_folder, replacing
from hwaware.results.provenance import commit
from hwaware.system.reading import read_json, refuse_special

SCHEMA, SCHEMA_VERSION = "hwaware-bundle", 3

_MANIFEST = "bundle.json"

_FILES = ("conductances", "places", "digital", "repairs")


@dataclass(frozen=True)
class Bundle:
    """The contents of a bundle.

    Attributes:
        network: name of the network.
        hardware: hardware of each analog layer, by name.
        targets: target conductances (µS) of each layer's cells, each in the shape of the layer's weight.
        scales: scale ``s`` of each layer.
        digital: everything that stays digital, under the network's own keys.
        repairs: the repairs that are shipped with it.
        beside: numbers of the digital side, such as a "no answer" threshold.
        ranges: ranges of the converters, for layers that have them.

    Raises:
        UserError: a value is invalid.
    """

    network: str
    hardware: dict[str, Hardware]
    targets: dict[str, tuple[Tensor, ...]]
    scales: dict[str, Tensor]
    digital: dict[str, Tensor]
    repairs: tuple[PlannedRepair, ...]
    beside: dict[str, Any]
    ranges: dict[str, Ranges]

    def __post_init__(self) -> None:
        for name, cells in self.targets.items():
            for cell in cells:
                if not (cell.isfinite() & (cell >= 0)).all():
                    raise UserError(f"layer '{name}' has targets that are not conductances: not finite, or below 0 µS.")
        for what, tensors in {"scale": self.scales, "tensor": self.digital}.items():
            for name, values in tensors.items():
                if not values.isfinite().all() or (what == "scale" and (values < 0).any()):
                    raise UserError(f"'{name}' has a {what} that is not finite, or below 0.")

    @torch.no_grad()
    def install(self, model: nn.Module) -> None:
        """Converts a digital network of the same architecture, and loads the bundle's weights into it.

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
            if id(value) in analog:  # under any of its names
                state[key] = value.detach()
        try:
            model.load_state_dict(state)
        except RuntimeError as error:
            raise UserError(f"the bundle is for another network: {' '.join(str(error).split())[:160]}") from None
        for name, cells in self.targets.items():
            hardware = self.hardware[name]
            position = hardware.encoding.position(hardware.device, cells)
            latent = position / hardware.encoding.range_fraction * self.scales[name]
            if hardware.encoding.format.is_fixed_point:  # its scale follows from the codes
                layers[name].set_effective_weight(latent)
            else:
                layers[name].hold(latent)
        Measured({name: ranges.plain() for name, ranges in self.ranges.items()}, self.beside).give(model)


def write_bundle(
    folder: str | Path,
    model: nn.Module,
    network: str,
    repairs: Sequence[PlannedRepair] = (),
) -> Path:
    """Writes a converted network as a bundle, atomically; returns the folder.

    Raises:
        UserError: the path exists already; the network is not converted, or has converters without measured ranges.
    """
    from safetensors.torch import save

    folder = Path(folder)
    if folder.exists():
        raise UserError(f"'{folder}' exists already: give a new folder.")
    refuse_adapters(model, "a bundle")
    layers: dict[str, dict[str, Any]] = {}
    conductances: dict[str, Tensor] = {}
    places: dict[str, Tensor] = {}
    analog = analog_layers(model)
    for name, layer in analog.items():
        if layer.is_computed and layer.hardware.encoding.steps:
            raise UserError(
                f"layer '{name}' ({layer.digital_class.__name__}) standardises its weights in every pass, so a "
                "bundle can't restore levels or codes: give it the format continuous, or keep it digital."
            )
        if layer.converters is not None and layer.ranges is None:
            raise UserError(
                f"layer '{name}' has converters but no ranges: call calibrate(model, predict, batches) first."
            )
    in_cells = {weight_key(layer)[0] for layer in analog.values()}
    variables = model.state_dict(keep_vars=True).items()
    digital = {key: value.detach().cpu() for key, value in variables if id(value) not in in_cells}
    used: dict[Hardware, int] = {}
    for name, target in Chip.program(model, seed=0).targets.items():  # also checks the weights
        ranges = analog[name].ranges if analog[name].converters is not None else None
        own = {"ranges": None if ranges is None else dict(zip(("x_max", "y_max"), ranges.plain(), strict=True))}
        if target.owner != name:  # tied layers share cells
            layers[name] = layers[target.owner] | own
            continue
        latent, scale = target.latent.float().cpu(), target.scale.cpu()
        digital[f"{name}/scale"] = scale
        hardware = target.hardware
        form = Layer(hardware, tuple(latent.shape), target.groups)
        cells = hardware.encode(hardware.encoding.window_position(normalised(latent, scale)))
        number, conductances[name], held = to_arrays(form, cells)
        places |= {f"{name}/rows": held.rows, f"{name}/columns": held.columns}
        about = {"hardware": used.setdefault(hardware, len(used)), "shape": list(form.shape), "groups": form.groups}
        layers[name] = {**about, "scale": f"{name}/scale", "key": name, "arrays": number, **own}
    stored: dict[str, Tensor] = {}
    manifest = {
        "schema": SCHEMA,
        "version": SCHEMA_VERSION,
        "network": network,
        "hardware": [hardware.plain() for hardware in used],
        "decoding": [_decoding(hardware) for hardware in used],
        "layers": layers,
        "repairs": [stored_repair(f"{i}_{one.method.name}", one, model, stored) for i, one in enumerate(repairs)],
        "beside": dict(Measured.of(model).numbers),
        "hwaware": version("hwaware"),
        "commit": commit(),
    }
    with new_folder(folder) as temporary:
        for name, tensors in zip(_FILES, (conductances, places, digital, stored), strict=True):
            separate = {
                key: value.contiguous().clone() for key, value in tensors.items()
            }  # safetensors refuses tied tensors
            with replacing(temporary / f"{name}.safetensors") as file:
                file.write(save(separate))
        (temporary / _MANIFEST).write_text(json.dumps(for_json(manifest), indent=1, allow_nan=False))
    return folder


def read_bundle(folder: str | Path) -> Bundle:
    """Reads a bundle of :func:`write_bundle`.

    Raises:
        UserError: it is missing, damaged or of a later schema; a custom law or repair is in a module that was not
            imported yet.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"there is no bundle '{folder}'. {nearest_path(folder)}".rstrip())
    if not (folder / _MANIFEST).is_file():
        raise UserError(f"'{folder}' is not a bundle: it has no {_MANIFEST}.")
    try:
        manifest = read_json(folder / _MANIFEST, "manifest")
        found = manifest["schema"], manifest["version"]
    except (KeyError, TypeError) as error:
        raise UserError(f"'{folder}/{_MANIFEST}' is damaged: {' '.join(str(error).split())[:160]}") from None
    if found[0] != SCHEMA or found[1] not in range(1, SCHEMA_VERSION + 1):
        raise UserError(
            f"'{folder}' has schema {found[0]} {found[1]}; this package reads {SCHEMA} 1 to {SCHEMA_VERSION}."
        )
    try:
        newest = manifest["version"] == SCHEMA_VERSION
        files = [name for name in _FILES if newest or name != "places"]
        for name in files:
            refuse_special(folder / f"{name}.safetensors", "file")
        tensors = {name: load_file(folder / f"{name}.safetensors") for name in files}
        digital, hardware, layers = tensors["digital"], _hardware(manifest), manifest["layers"]
        with_converters = [name for name in layers if newest and hardware[name].crossbar.converters is not None]
        ranges = {name: _ranges(name, layers[name]) for name in with_converters}
        targets = {name: _targets(name, layer, hardware[name], tensors) for name, layer in layers.items()}
        scales = {name: digital[layer["scale"]] for name, layer in layers.items()}
        digital = {key: value for key, value in digital.items() if not key.endswith("/scale")}
        repairs = tuple(read_repair(entry, tensors["repairs"]) for entry in manifest["repairs"])
        beside = {name: None if value is None else float(value) for name, value in manifest.get("beside", {}).items()}
        return Bundle(manifest["network"], hardware, targets, scales, digital, repairs, beside, ranges)
    except UserError as error:  # a name in it is unknown here
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


def _targets(
    name: str, layer: Mapping[str, Any], hardware: Hardware, tensors: Mapping[str, Mapping[str, Tensor]]
) -> tuple[Tensor, ...]:
    """The targets of a layer's cells, each of the weight's shape."""
    conductances, places = tensors["conductances"], tensors.get("places")
    try:
        if places is None:
            return older_bundles.targets(layer, conductances, hardware.encoding.layout.cells_per_weight)
        key, about = layer["key"], Layer(hardware, tuple(layer["shape"]), layer["groups"])
        held = Contents(places[f"{key}/rows"], places[f"{key}/columns"])
        return from_arrays(about, layer["arrays"], conductances[key], held)
    except ValueError as error:
        raise ValueError(f"layer '{name}': {error}") from None


def _ranges(name: str, layer: Mapping[str, Any]) -> Ranges:
    """The ranges of a layer's converters."""
    n_parts, plain = layer["arrays"][1], layer["ranges"]
    if plain is None:
        raise ValueError(f"layer '{name}' has converters, but no ranges")
    found = Ranges.of(plain["x_max"], plain["y_max"])
    for limit in found:
        each = limit if isinstance(limit, tuple) else (limit,)
        possible = (type(one) in (int, float) and 0 < one <= torch.finfo(torch.float32).max for one in each)
        if len(each) not in (1, n_parts) or not all(possible):
            raise ValueError(f"layer '{name}': {limit!r} is neither a range nor one for each of {n_parts} parts")
    return found


def _decoding(hardware: Hardware) -> dict[str, Any]:
    """How the cells of a hardware are read, as plain numbers."""
    encoding = hardware.encoding
    low, high = encoding.window_us(hardware.device)
    lowest = tuple(torch.tensor(low, dtype=torch.float64) for _ in encoding.layout.gains)
    written = encoding.written_positions(hardware.device)
    return {
        "low_us": low,
        "high_us": high,
        "gains": list(encoding.layout.gains),
        "at_low": encoding.decode(hardware.device, lowest).item(),
        "positions": [-1, 1] if written is None else written.tolist(),
        "kappa": encoding.kappa,
        "range_fraction": encoding.range_fraction,
    }
