# %% [markdown]
# # From my lab's readings to a device
#
# You have read cells over some weeks, and want to know what a network keeps in such cells after ten years. This
# notebook goes from a CSV file of readings to a device file, looks at the fit, and ages a network in it. It takes
# half a minute on one core.
#
# Commands are run as in a terminal, by this function:

# %%
import copy
import csv
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from IPython.display import Image
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import cross_entropy

import hwaware
from hwaware.cli.main import main
from hwaware.report.labels import age_label
from hwaware.report.plots import plot_accuracy
from hwaware.results.summary import summarise


def command(line):
    assert main(line.split()[1:]) == 0


# %% [markdown]
# ## Readings
#
# `hwaware device simulate` stands in for the laboratory: 600 cells of a known device, each written once and read at
# seven ages up to a month. With readings of your own, leave this line out.

# %%
command("hwaware device simulate reram_cmo --cells 600 --out readings.csv")
print("".join(Path("readings.csv").read_text().splitlines(keepends=True)[:4]))

# %% [markdown]
# A line is one reading: which cell, the conductance that it was meant to have (µS), the time since it was written
# (s), and the conductance that was read (µS). The readings at time 0 are those of the verification after writing.
# Some cells over time:

# %%
with open("readings.csv", newline="") as file:
    lines = list(csv.DictReader(file))
figure, axis = plt.subplots(figsize=(7, 3.5))
for cell in range(5, 12):
    of_cell = [line for line in lines if int(line["cell"]) == cell and float(line["time_s"]) > 0]
    axis.plot([float(line["time_s"]) for line in of_cell], [float(line["conductance_us"]) for line in of_cell], "o-")
axis.set(xscale="log", xlabel="time since written (s)", ylabel="conductance (µS)")
plt.show()

# %% [markdown]
# ## The fit
#
# `hwaware device fit` tries several laws and keeps the one that predicts cells best which it has not seen. It says
# how sure each constant is, which readings it set aside, and what it had to assume.

# %%
command("hwaware device fit readings.csv --out mine.yaml")

# %% [markdown]
# The cells were simulated, so the answer is known: a mean drift of −0.089 µS per unit of ln t, and a spread that
# grows by 0.042. Both lie within the intervals above. Figures lie beside the file. Points were measured, lines were
# fitted, and what is beyond the last reading is extrapolated:

# %%
Image("mine_time.png", width=700)

# %% [markdown]
# `hwaware device plot` draws the law over all targets: how far cells move on average, how far they spread, and how
# sure that is:

# %%
command("hwaware device plot mine.yaml --out mine.png")
Image("mine.png", width=700)

# %% [markdown]
# ## A network in this memory
#
# The file is a device like any other. A small network learns digits, and is written into ten chips.

# %%
torch.manual_seed(0)
pixels, digits = load_digits(return_X_y=True)
images, labels = torch.tensor(pixels, dtype=torch.float32).view(-1, 1, 8, 8) / 8 - 1, torch.tensor(digits)
network = nn.Sequential(
    *(nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU()),
    *(nn.Conv2d(16, 32, 3, padding=1, stride=2), nn.BatchNorm2d(32), nn.ReLU()),
    *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10)),
)
optimizer = torch.optim.AdamW(network.parameters(), lr=5e-3)
for _ in range(15):
    for batch in torch.randperm(1200).split(64):
        optimizer.zero_grad()
        cross_entropy(network(images[batch]), labels[batch]).backward()
        optimizer.step()
network.eval()


@torch.no_grad()
def score(network):
    return {"top1": 100 * (network(images[1200:]).argmax(1) == labels[1200:]).float().mean().item()}


def aged(device, drawn=False):
    in_cells = copy.deepcopy(network)
    hwaware.convert(in_cells, hwaware.load_hardware(device, mapping="differential"))
    run = hwaware.RunLabels(recipe="tutorial", model="small", network="base", dataset="digits", seed=0)
    return hwaware.evaluate(in_cells, score=score, base_digital=score(network), n_samples=597, labels=run, drawn=drawn)


fitted = aged("mine.yaml", drawn=True)
Image(plot_accuracy(fitted, "accuracy.png"), width=700)

# %% [markdown]
# With `drawn` each chip also draws its constants from what the readings leave open, so that the spread over chips
# includes that doubt. The device that the readings came from gives nearly the same:

# %%
for of_fit, of_truth in zip(summarise(fitted), summarise(aged("reram_cmo")), strict=True):
    means = [f"{one.mean:.2f} ± {one.std:.2f}" for one in (of_fit, of_truth)]
    print(f"{age_label(of_fit.age_s):>8}   fitted {means[0]}   true {means[1]}")

# %% [markdown]
# ## From a table of states instead
#
# Some papers give no readings, but a table: how much each state of a cell varies. That is a device file of five
# lines. Here a cell has four states between 10 and 30 µS, which vary by 4, 6, 12 and 6 % of their conductance, and a
# weight of 8 bits lies in four cells:

# %%
Path("states.yaml").write_text("""\
law: state_variation
source: "our measurement, wafer 7"
g_min_us: 10.0
g_max_us: 30.0
state_std: [0.04, 0.06, 0.12, 0.06]
encoding: {mapping: bit_sliced, kappa: null, format: {bits: 8, slice_bits: 2}}
""")
in_slices = copy.deepcopy(network)
hwaware.convert(in_slices, hwaware.load_hardware("states.yaml"))
print(f"digital {score(network)['top1']:.2f} %")
for seed in range(2_000_000, 2_000_003):
    with hwaware.Chip.program(in_slices, seed).at(0):
        print(f"chip {seed}: {score(in_slices)['top1']:.2f} %")

# %% [markdown]
# ## Next
#
# * What the CSV file may have, units, repeats and dies: [Your own memory](../guides/memory.md).
# * The laws and their constants: [Devices](../methods/devices.md).
# * A law of your own: [Extend: a device law](../extend/law.md).
# * What to do about the loss: [Will my network survive?](survive.md), [Which repair should the chip
#   have?](repairs.md)
