"""Reads a bundle with only json, numpy and safetensors: each layer's weights, and the products of its arrays.

A network is exported, and read; from this folder::

    hwaware fit --config digits.yaml --recipe plain --model ImageClassification --model.name lenet5
    hwaware export --config digits.yaml --model ImageClassification --model.name lenet5 \
        --model.weights runs/plain/version_0/model.safetensors --model.hardware.device.name reram_cmo \
        --model.hardware.crossbar "{rows: 32, columns: 32, converters: {dac_bits: 8, adc_bits: 8}}" --out bundle
    python read_bundle.py
"""

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file


class Bundle:
    def __init__(self, folder):
        self.manifest = json.loads((folder / "bundle.json").read_text())
        names = ("conductances", "places", "digital")
        self.cells, self.places, self.digital = (load_file(folder / f"{name}.safetensors") for name in names)

    def arrays(self, name):
        """Of each array the rows' input channels and taps, the outputs, and the weights; NaN where there is none."""
        layer = self.manifest["layers"][name]
        how = self.manifest["decoding"][layer["hardware"]]
        low, high, r, kappa = (how[key] for key in ("low_us", "high_us", "range_fraction", "kappa"))
        scale = np.ones(layer["shape"][0]) * self.digital[layer["scale"]].ravel()  # of all, or of each output
        key, wide = layer["key"], layer["arrays"][3]  # where an output's columns run on in the next array
        columns = np.concatenate([self.places[f"{key}/columns"][k::wide] for k in range(wide)], 1)
        g = np.concatenate([self.cells[key][k::wide] for k in range(wide)], 2)
        for us, row, column in zip(g, self.places[f"{key}/rows"][::wide], columns, strict=True):
            outputs, v = np.unique(column[column[:, 0] >= 0, 0]), how["at_low"]
            for cell, gain in enumerate(how["gains"]):
                own = (column[:, 1] == cell) & ((column[:, 0] == outputs[:, None]) | (column[:, 0] == -1))
                v = v + gain * (np.stack([us[:, one].mean(1) for one in own], 1) - low) / (high - low)
            v = np.interp(v, how["positions"], np.linspace(-1, 1, len(how["positions"])))
            yield row, outputs, scale[outputs] * (v / r if kappa is None else np.sinh(kappa * v) / np.sinh(kappa * r))

    def weight(self, name):
        """As the layer has it: outputs, inputs of a group, kernel."""
        shape = self.manifest["layers"][name]["shape"]
        found = np.zeros((*shape[:2], int(np.prod(shape[2:]))))
        for row, output, weight in self.arrays(name):
            at, of = np.nonzero(~np.isnan(weight))
            found[output[of], row[at, 0] % shape[1], row[at, 1]] = weight[at, of]
        return found.reshape(shape)

    def product(self, name, x, exact=False):
        """What a layer's arrays read, as new, for inputs [positions, input channels, taps]; wires and bias left out."""
        layer = self.manifest["layers"][name]
        encoding, crossbar = (self.manifest["hardware"][layer["hardware"]][key] for key in ("encoding", "crossbar"))
        about = {} if exact else crossbar["converters"] or {}
        if about and (encoding["mapping"] == "bit_sliced" or {"input_kappa", "dac_slice_bits"} & set(about)):
            raise NotImplementedError("a curve in the voltage, slices of inputs, digits of weights")
        ranges, (_, parts, sides, _) = layer["ranges"] or {"x_max": np.inf, "y_max": np.inf}, layer["arrays"]
        x_max, y_max = (np.resize(ranges[key], parts) for key in ("x_max", "y_max"))
        y, full = np.zeros((len(x), layer["shape"][0])), y_max / about.get("input_range", 1)
        for number, (row, outputs, weight) in enumerate(self.arrays(name)):
            part = number // sides % parts
            driven = converted(x[:, row[:, 0], row[:, 1]], x_max[part], about.get("dac_bits"))
            y[:, outputs] += converted(driven @ np.nan_to_num(weight), full[part], about.get("adc_bits"))
        return y


def converted(x, limit, bits):
    half = 2 ** (bits - 1) - 1 if bits else None  # steps from 0 to the limit; None: exact
    return np.clip(np.round(x * half / limit), -half, half) * limit / half if bits else x


if __name__ == "__main__":
    bundle, draw = Bundle(Path("bundle")), np.random.default_rng(0)
    for name, layer in bundle.manifest["layers"].items():
        inputs, taps = layer["groups"] * layer["shape"][1], int(np.prod(layer["shape"][2:]))
        x = draw.normal(0, np.max((layer["ranges"] or {"x_max": 4})["x_max"]) / 4, (100, inputs, taps))
        y, exact = (bundle.product(name, x, exact) for exact in (False, True))
        print(f"{name}: {np.prod(layer['arrays'])} arrays, off by {100 * (y - exact).std() / exact.std():.2f} %")
