import json
import random

import pytest

from hwaware.evaluation.evaluate import DEFAULT_AGES_S
from hwaware.results.row import Row

PARAMS = {
    "g_min_us": 9.0, "g_max_us": 88.199997, "scale": "tensor", "clamp": "window", "kappa": 2.0, "range_fraction": 1.0,
    "stuck_on": 0.0, "stuck_off": 0.0, "drift_mean_slope_us": -0.089,
}  # fmt: skip

# Mean accuracy at each default age, much like ResNet-20 on CIFAR-10.
MEANS = {
    "base_uncorrected": (10.4, 10.2, 10.1, 10.0, 10.0, 10.0, 10.0),
    "base": (91.6, 91.2, 90.8, 90.4, 90.0, 89.4, 88.6),
    "finetuned": (91.7, 91.6, 91.6, 91.5, 91.4, 91.3, 91.1),
}


@pytest.fixture
def make_row():
    """One row; keyword arguments replace its fields, and ``params`` device parameters."""

    def make(params=None, **changes):
        fields = dict(
            recipe="cifar10_resnet20", model="cifar_resnet20", network="base", dataset="cifar10", device="reram_cmo",
            device_params=json.dumps(PARAMS | (params or {}), sort_keys=True), mapping="differential", method="none",
            method_params="{}", age_s=0.0, chip_seed=2_000_000, metric="top1", value=90.0, drift_free=91.7,
            base_digital=91.73, n_samples=10_000, seed=0, commit="abc1234", version="0.1.0",
        )  # fmt: skip
        return Row(**fields | changes)

    return make


@pytest.fixture
def make_rows(make_row):
    """Rows of three networks × the default ages × ten chips; keyword arguments as for ``make_row``."""

    def make(n_chips=10, means=MEANS, **changes):
        draw = random.Random(0)
        return [
            make_row(
                network=network, age_s=float(age), chip_seed=2_000_000 + chip,
                value=round(mean + draw.gauss(0, 0.1 + 0.06 * step), 2), **changes,
            )
            for network, curve in means.items()
            for step, (age, mean) in enumerate(zip(DEFAULT_AGES_S, curve, strict=True))
            for chip in range(n_chips)
        ]  # fmt: skip

    return make


@pytest.fixture
def rows(make_rows):
    return make_rows()
