"""The hardware that cases run on, and how it is spelt: on the command line, and in Python."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn

import hwaware

CHIP_SEED = 2_000_000

FIXED = {"scale": "fixed", "kappa": "linear"}
#: Words of :func:`device_keys` and :func:`in_cells`: every law, mapping, scale and format, and what modifies them.
SETTINGS: dict[str, dict[str, Any]] = {
    "offset": dict(name="reram_cmo", mapping="offset", scale="tensor", kappa=2.0),
    "offset_channel_levels": dict(name="reram_cmo", mapping="offset", scale="channel", kappa="linear", levels=15),
    "offset_range": dict(name="reram_powerlaw", mapping="offset", scale="tensor", kappa=2.0, range_fraction=0.5),
    "offset_zero": dict(name="reram_cmo", mapping="offset", scale="channel", kappa=2.0, clamp="zero"),
    "reference": dict(name="reram_cmo", mapping="offset_reference", scale="tensor", kappa="linear"),
    "reference_channel_levels": dict(
        name="reram_cmo", mapping="offset_reference", scale="channel", kappa=2.0, levels=15
    ),
    "differential": dict(name="reram_cmo", mapping="differential", scale="tensor", kappa=2.0),
    "differential_channel_levels": dict(
        name="reram_cmo", mapping="differential", scale="channel", kappa=2.0, levels=15
    ),
    "differential_range": dict(
        name="reram_cmo_acc0.2", mapping="differential", scale="channel", kappa="linear", range_fraction=0.5
    ),
    "differential_range_levels": dict(
        name="reram_cmo", mapping="differential", scale="tensor", kappa=1.0, range_fraction=0.8, levels=11
    ),
    "symmetric": dict(name="reram_cmo", mapping="differential_symmetric", scale="tensor", kappa=2.0),
    "symmetric_channel_levels": dict(
        name="reram_relative", mapping="differential_symmetric", scale="channel", kappa="linear", levels=15
    ),
    "relative": dict(name="reram_relative", mapping="offset", scale="channel", kappa=2.0, relative_drift=0.2),
    "pcm": dict(name="pcm", mapping="differential", scale="tensor", kappa="linear"),
    "wan2022": dict(name="reram_wan2022", mapping="differential", scale="channel", kappa=2.0),
    "charan2020": dict(name="charan2020", mapping="differential", scale="channel"),
    "sliced": dict(name="reram_cmo", mapping="bit_sliced", scale="tensor", kappa="linear", bits=8, slice_bits=2),
    "sliced_channel": dict(name="pcm", mapping="bit_sliced", scale="channel", kappa="linear", bits=4, slice_bits=1),
    "sliced_fixed": dict(name="diware2023", severity=0.35),
    "sliced_fixed_narrow": dict(name="reram_cmo", mapping="bit_sliced", bits=4, slice_bits=1, fraction_bits=2, **FIXED),
    "sliced_stuck": dict(
        name="reram_cmo", mapping="bit_sliced", scale="channel", kappa="linear", stuck_on=0.01, stuck_off=0.02
    ),
    "converters": dict(
        name="reram_cmo",
        mapping="differential",
        scale="tensor",
        kappa="linear",
        converters=dict(dac_bits=6, adc_bits=6, output_noise=0.02, input_kappa=1.0, input_range=0.8),
    ),
    "converters_curve_levels": dict(
        name="reram_cmo", mapping="offset", scale="channel", kappa=2.0, levels=15, converters=dict(adc_bits=6)
    ),
    "excluded": dict(name="reram_cmo", mapping="differential", scale="tensor", kappa=2.0, exclude=["conv1"]),
    "hot": dict(name="reram_cmo", mapping="offset", scale="tensor", temperature_c=85, activation_energy_ev=0.6),
}

#: Where settings that are no constants of a device belong.
_PLACES = dict.fromkeys(("mapping", "scale", "kappa", "range_fraction"), "encoding")
_PLACES |= dict.fromkeys(("levels", "bits", "slice_bits", "fraction_bits"), "encoding.format")


def device_keys(
    name: str,
    exclude: Iterable[str] = (),
    converters: Mapping[str, Any] | None = None,
    corrected: bool = True,
    **options: Any,
) -> list[str]:
    """Options of the command line for a device, the mapping of weights to its cells, and what stands about them.

    Args:
        name: the preset.
        exclude: layers that stay digital.
        converters: their settings.
        corrected: whether weights are pre-distorted for the cells' curve.
        **options: mapping, scale, clamp, kappa (``linear``: none), range_fraction, levels, bits, slice_bits,
            fraction_bits, stuck_on, stuck_off, temperature_c, activation_energy_ev, or a constant of the law.
    """
    keys = ["--model.hardware.device.name", name]
    for key, value in options.items():
        keys += [f"--model.hardware.{_PLACES.get(key, 'device')}.{key}", str(value)]
    if exclude:
        keys += ["--model.hardware.layers", json.dumps([{"match": list(exclude), "digital": True}])]
    if converters:
        keys += ["--model.hardware.crossbar.converters", json.dumps(dict(converters))]
    if not corrected:
        keys += ["--model.corrected", "false"]
    return keys


def in_cells(network: nn.Module, name: str, exclude: Iterable[str] = (), **options: Any) -> Any:
    """Converts a network in Python for the same settings (without converters), and programs a chip with it."""
    if options.get("kappa") == "linear":
        options["kappa"] = None
    rules = (hwaware.Rule(tuple(exclude), None),) if exclude else ()
    hwaware.convert(network, hwaware.Placement(hwaware.load_hardware(name, **options), rules))
    return hwaware.Chip.program(network, seed=CHIP_SEED)


def chip_of_bundle(bundle: Any, network: nn.Module) -> Any:
    """A chip with the network that a bundle holds."""
    bundle.install(network)
    return hwaware.Chip.program(network, seed=CHIP_SEED)
