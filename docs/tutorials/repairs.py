# %% [markdown]
# # Which repair should the chip have?
#
# A chip that has drifted can be repaired without rewriting its cells. Some repairs are made once for all chips,
# others on each chip by itself; they store a few bytes or a second copy of weights. This notebook puts six of them on
# the same chips, and shows what each costs. It takes about a minute on one core.
#
# Commands are run as in a terminal, by this function:

# %%
import shlex

from IPython.display import Image, Markdown

from hwaware.cli.main import main
from hwaware.report.tables import markdown_table
from hwaware.results.costs import read_costs
from hwaware.results.csv import read_rows


def command(line):
    assert main(shlex.split(line)[1:]) == 0


# %% [markdown]
# ## A network that has a problem
#
# LeNet-5 learns handwritten digits. The options turn the quickstart's first recipe into what is wanted here.

# %%
command(
    "hwaware fit --config recipes/quickstart_pretrain.yaml --recipe digital"
    " --model.name lenet5 --model.optimizer.init_args.lr 0.02"
    " --trainer.max_epochs 10 --trainer.enable_progress_bar false"
)

# %% [markdown]
# ## Six repairs on the same chips
#
# The memory is one whose conductances rise or fall as a power of time, with one cell for each weight (`offset`),
# which is a hard case. `compare` ages the network on chips alone, then once more with each repair:
#
# * `VeraPlus` and `ChannelAffine` are made once, on simulated chips, for each age;
# * `Dora` and `GlobalDriftCompensation` are made on each chip, with ten unlabelled images and with none;
# * `RandomSparseAdaptation` keeps 5 % of the weights in digital memory, those that the chip has most wrong;
# * `ReadVerifyWrite` is the baseline that does rewrite cells.

# %%
repairs = (
    "[VeraPlus, ChannelAffine, Dora, GlobalDriftCompensation, ReadVerifyWrite,"
    " {class_path: RandomSparseAdaptation, init_args: {mask: error, images: 100}}]"
)
command(
    "hwaware compare --config recipes/quickstart.yaml --recipe repairs"
    " --model.name lenet5 --model.weights runs/digital/version_0/model.safetensors"
    " --model.noise null --model.retention null"
    " --model.hardware.device.name reram_powerlaw"
    " --model.hardware.encoding.mapping offset"
    " --evaluation.networks [base] --evaluation.n_chips 4"
    " --evaluation.ages_s [86400,315360000] --trainer.enable_progress_bar false"
    f" --evaluation.methods '{repairs}'"
)

# %% [markdown]
# ## Accuracy
#
# `rows.csv` has each measurement. As a table, with what each repair stores:

# %%
run = "runs/repairs/version_0"
rows = [row for row in read_rows(f"{run}/rows.csv") if row.metric == "top1"]
costs = read_costs(f"{run}/costs.csv")
Markdown(markdown_table(rows, costs=costs))

# %% [markdown]
# ## Accuracy against cost
#
# Each point is a repair at ten years; the grey line joins those that no other beats in both bytes and accuracy.

# %%
Image(f"{run}/plots/costs_reram_powerlaw_offset_top1_base.png", width=700)

# %% [markdown]
# ## What to choose
#
# * A scale for each layer does nothing here: conductances rise and fall alike, so that their mean stays.
# * VeRA+ gets a good part back for some hundred bytes, which are written once and are the same for all chips.
# * Weights in digital memory get most back. They take a read of each chip, and much more memory, of which the images
#   and labels that are kept for it are the larger part.
# * Rewriting the cells of the largest 5 % of the weights leaves the drift of all others.
#
# On another memory or mapping the order is another one, so ask for your own chip. Four chips are few: the ± of the
# table says how far they differ.
#
# ## Next
#
# * Every repair, and how to set them: [Repairs](../guides/repairs.md); their equations:
#   [Methods](../methods/repairs.md).
# * All of them on CIFAR-10: [ResNet-20, repaired](../results/compare_cifar10_resnet20.md).
# * A repair of your own in one file: [Extend](../extend/repair.md).
