# %% [markdown]
# # Will my network survive?
#
# A network is trained on a computer. Its weights are then written into the memory cells of a chip, and the cells
# drift for years. This notebook puts a network on ten simulated chips, lets them age for ten years, and does two
# things about the loss. It takes half a minute on one core.

# %%
import copy

import torch
from IPython.display import Image, Markdown
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import cross_entropy

import hwaware
from hwaware.report.plots import plot_accuracy
from hwaware.report.tables import markdown_table

# %% [markdown]
# ## A network
#
# Here it is a small one that learns handwritten digits in seconds. Yours can be any PyTorch network, such as
# `timm.create_model("resnet18", pretrained=True)`.

# %%
torch.manual_seed(0)
pixels, digits = load_digits(return_X_y=True)
images, labels = torch.tensor(pixels, dtype=torch.float32).view(-1, 1, 8, 8) / 8 - 1, torch.tensor(digits)
training, test = slice(0, 1200), slice(1200, None)

network = nn.Sequential(
    *(nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU()),
    *(nn.Conv2d(16, 32, 3, padding=1, stride=2), nn.BatchNorm2d(32), nn.ReLU()),
    *(nn.Conv2d(32, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU()),
    *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10)),
)


def train(network, epochs, lr, before_each_step=lambda: None):
    optimizer = torch.optim.AdamW(network.train().parameters(), lr=lr)
    for _ in range(epochs):
        for batch in torch.randperm(1200).split(64):
            before_each_step()
            optimizer.zero_grad()
            cross_entropy(network(images[training][batch]), labels[training][batch]).backward()
            optimizer.step()
    network.eval()


@torch.no_grad()
def score(network):
    right = network(images[test]).argmax(1) == labels[test]
    return {"top1": 100 * right.float().mean().item()}


train(network, epochs=15, lr=5e-3)
digital = score(network)
print(f"digital accuracy: {digital['top1']:.2f} %")

# %% [markdown]
# ## Into memory cells
#
# The hardware is a [device](../concepts.md#device), which says what a cell does, and an
# [encoding](../concepts.md#encoding), which says how cells hold a weight. `convert` replaces the layers in place. The
# function of the network stays the same.

# %%
hardware = hwaware.load_hardware("reram_cmo", mapping="differential")
in_cells = copy.deepcopy(network)
print(hwaware.convert(in_cells, hardware))

# %% [markdown]
# ## Ten years on ten chips
#
# `evaluate` writes the network into ten chips. Each chip has errors of its own, from its seed, and keeps them for
# life.


# %%
def aged(network, name):
    run = hwaware.RunLabels(recipe="tutorial", model="small", network=name, dataset="digits", seed=0)
    ages_s = (0, 3600, 86_400, 2_592_000, 31_536_000, 315_360_000)
    return hwaware.evaluate(
        network, score=score, base_digital=digital, n_samples=len(labels[test]), labels=run, ages_s=ages_s
    )


rows = aged(in_cells, "base")
Markdown(markdown_table(rows))

# %% [markdown]
# Each cell of the table is the mean ± standard deviation over the chips, with the worst chip in brackets. *Life to −1
# point* is how long the mean stays within one point of the digital accuracy.
#
# ## What to do: headroom
#
# Cells at the end of the conductance window can err one way only. Targets that stay away from the window's ends cost
# nothing but range:

# %%
roomy = copy.deepcopy(network)
hwaware.convert(roomy, hwaware.load_hardware("reram_cmo", mapping="differential", headroom_us=(5, 2.4)))
rows_roomy = aged(roomy, "base")
Markdown(markdown_table(rows_roomy))

# %% [markdown]
# ## What to do: finetune for the device
#
# A few epochs more, in which every step draws the errors that cells of some age have:

# %%
finetuned = copy.deepcopy(in_cells)
noise = hwaware.TrainingNoise()  # of an age between a second and ten years, drawn anew for each step
train(finetuned, epochs=8, lr=1e-3, before_each_step=lambda: hwaware.install_noise(finetuned, noise))
hwaware.remove_noise(finetuned)
rows += aged(finetuned, "finetuned")
Markdown(markdown_table(rows))

# %%
Image(plot_accuracy(rows, "accuracy.png"), width=700)

# %% [markdown]
# The last column of the table is the gain over the pretrained network on the same chips, with its 95 % interval.
#
# ## Next
#
# * The same from the command line, with recipes, logging and a report: [Your own network](../guides/network.md).
# * Larger networks often lose most in a few layers: [Each layer the cells it needs](../guides/placement.md).
# * A network that can't be trained any more can be repaired: [Which repair should the chip have?](repairs.md)
# * Other memories: [From my lab's readings to a device](readings.md).
