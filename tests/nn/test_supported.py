"""The table of layers that have a form in cells."""

import runpy

import pytest
from torch import nn

from hwaware.hardware import load_hardware
from hwaware.nn import analog_layers, convert
from hwaware.nn.supported import supported, table
from tests.conftest import ROOT

EXAMPLES = {
    "Linear": nn.Linear(2, 2), "Conv1d": nn.Conv1d(2, 2, 1), "Conv2d": nn.Conv2d(2, 2, 1), "Conv3d": nn.Conv3d(2, 2, 1),
    "ConvTranspose1d": nn.ConvTranspose1d(2, 2, 1), "ConvTranspose2d": nn.ConvTranspose2d(2, 2, 1),
    "LSTM": nn.LSTM(2, 2), "GRU": nn.GRU(2, 2), "MultiheadAttention": nn.MultiheadAttention(2, 1),
    "Embedding": nn.Embedding(2, 2), "EmbeddingBag": nn.EmbeddingBag(2, 2), "LayerNorm": nn.LayerNorm((2, 2)),
    "RMSNorm": nn.RMSNorm((2, 2)),
}  # fmt: skip


def test_the_table_says_what_conversion_does():
    lines = {one.layer: one for one in supported()}
    assert {name.removeprefix("torch.nn.") for name in lines if name.startswith("torch.nn.")} == set(EXAMPLES)
    for name, layer in EXAMPLES.items():
        model = nn.Sequential(nn.Linear(2, 2), layer)
        convert(model, load_hardware("reram_cmo"))
        held = lines[f"torch.nn.{name}"].in_cells
        in_cells = [key.removeprefix("1.") for key in analog_layers(model) if key != "0"]
        assert in_cells == (
            [] if held == "nothing" else ["1"] if held == "weight" else held.removesuffix(", …").split(", ")
        )
    assert "timm.layers.std_conv.ScaledStdConv2d" in lines and "transformers.pytorch_utils.Conv1D" in lines
    assert lines["transformers.models.mixtral.modeling_mixtral.MixtralExperts"].in_cells == "gate_up_0, down_0, …"


@pytest.mark.filterwarnings("ignore:.*found in sys.modules")
def test_the_command_prints_it(capsys):
    runpy.run_module("hwaware.nn.supported", run_name="__main__")
    printed = capsys.readouterr().out
    assert table() in (ROOT / "docs" / "guides" / "layers.md").read_text()
    assert "| `torch.nn.LSTM` | ih_l0, hh_l0, … | without proj_size" in printed and printed.strip() == table()
