#!/usr/bin/env python
"""Compares layers in arrays with DACs and ADCs to IBM's aihwkit-lightning, with the same weights, inputs and ranges.

    pip install --no-deps aihwkit-lightning
    python scripts/check_aihwkit.py --out results/crossbar_agreement/aihwkit.csv

Weights are exact (no sinh, no noise). Both cut a layer's rows into arrays, round inputs to 2^bits - 1 levels, and round
the column sums of each array. `max_steps` is the largest difference of an output, and `differing` the share of outputs
that differ by more than a hundredth, both in steps of the ADC. Where the sum of an array is halfway between two levels,
floating-point rounding decides: such outputs differ by a whole step. `rms_rounding_steps` is the difference of our
outputs from those of the exact layer, due to the converters.
"""

from __future__ import annotations

import argparse
import platform
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor, nn

from hwaware.hardware import Converters, Ranges, load_hardware
from hwaware.nn import convert
from hwaware.results.csv import write_csv
from hwaware.results.provenance import commit

SEED = 20_261_127
RANGE, BOUND = 2.5, 1.0  # of inputs, and of outputs over the inputs' range
LAYERS = {
    "linear 768 → 64": (lambda: nn.Linear(768, 64), (400, 768)),
    "linear 600 → 10": (lambda: nn.Linear(600, 10), (400, 600)),
    "conv 54 → 64, 3 × 3": (lambda: nn.Conv2d(54, 64, 3, padding=1), (8, 54, 14, 14)),
}


def peer(layer: nn.Module, rows: int, dac_bits: int, adc_bits: int, parts: int) -> nn.Module:
    """The same layer of aihwkit-lightning, with the ranges that ours has."""
    from aihwkit_lightning.nn import AnalogConv2d, AnalogLinear
    from aihwkit_lightning.simulator.configs import TorchInferenceRPUConfig

    config = TorchInferenceRPUConfig()
    config.mapping.max_input_size = rows
    config.pre_post.input_range.enable = True
    config.pre_post.input_range.init_value = RANGE
    config.forward.inp_res, config.forward.out_res = 2**dac_bits - 2, 2**adc_bits - 2
    config.forward.out_bound = BOUND
    if isinstance(layer, nn.Conv2d):
        found = AnalogConv2d(layer.in_channels, layer.out_channels, 3, padding=1, rpu_config=config)
    else:
        found = AnalogLinear(layer.in_features, layer.out_features, rpu_config=config)
    assert layer.bias is not None
    found.weight.data.copy_(layer.weight.reshape(found.weight.shape))
    found.bias.data.copy_(layer.bias)
    assert len(found.in_sizes) == parts, (found.in_sizes, parts)
    found.input_range.data.fill_(RANGE)
    return found.eval()


@torch.no_grad()
def compare(name: str, rows: int, dac_bits: int, adc_bits: int) -> dict[str, object]:
    torch.manual_seed(SEED)
    make, shape = LAYERS[name]
    model, x = nn.Sequential(make()).eval(), torch.randn(shape)
    converters = Converters(dac_bits=dac_bits, adc_bits=adc_bits)
    hardware = load_hardware("reram_cmo", kappa=None, rows=rows, converters=converters)
    parts = hardware.tiling(tuple(model[0].weight.shape), 1).parts
    flat, start = model[0].weight.flatten(1), 0
    for part in parts:  # aihwkit's output range is of each array's largest weight
        flat[0, start] = 1.0
        start += part.n_rows
    theirs = peer(model[0], rows, dac_bits, adc_bits, len(parts))(x)
    exact = model(x)
    convert(model, hardware)
    model[0].ranges = Ranges(RANGE, RANGE * BOUND)
    ours: Tensor = model(x)
    step = RANGE * BOUND / (2 ** (adc_bits - 1) - 1)
    off, moved = (ours - theirs).abs() / step, (ours - exact).abs() / step
    return {
        "layer": name,
        "rows": rows,
        "arrays": len(parts),
        "dac_bits": dac_bits,
        "adc_bits": adc_bits,
        "rms_rounding_steps": round(moved.square().mean().sqrt().item(), 3),
        "max_steps": round(off.max().item(), 4),
        "differing": round((off > 0.01).float().mean().item(), 6),
        "outputs": ours.numel(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    lines = [
        compare(name, rows, 8, adc_bits) for name in LAYERS for rows in (64, 256, 512) for adc_bits in (4, 6, 8)
        if not (name.startswith("conv") and rows == 64)  # whose cut is in the middle of a kernel there, and not here
    ]  # fmt: skip
    about = {
        "seed": SEED,
        "commit": commit(),
        "version": version("hwaware"),
        "torch": torch.__version__,
        "aihwkit_lightning": version("aihwkit-lightning"),
        "python": platform.python_version(),
    }
    write_csv(arguments.out, lines[0] | about, ((line | about).values() for line in lines))
    worst = max(lines, key=lambda line: float(str(line["differing"])))
    print(f"{len(lines)} layers: at most {worst['differing']:.4%} of the outputs differ: {arguments.out}")


if __name__ == "__main__":
    main()
