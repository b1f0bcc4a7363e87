"""Layer-wise learning rates: the nearer a layer is to the input, the less it changes (ULMFiT, arXiv 1801.06146)."""

from __future__ import annotations

from torch import nn


def layer_depths(model: nn.Module) -> dict[str, int]:
    """How many of the network's stacked blocks come after each parameter, by the parameter's name.

    The blocks are those of the longest ``ModuleList``, with all lists beside it that are as long (an encoder and a
    decoder count alike). What comes before the first one, and embeddings wherever they are defined, lies a block
    deeper; all else, the head above all, is at depth 0.
    """
    lists = {name: module for name, module in model.named_modules() if isinstance(module, nn.ModuleList)}
    n = max(map(len, lists.values()), default=0)
    stacks = [f"{name}." for name, module in lists.items() if len(module) == n]
    depths, seen = {}, False
    for name, _ in model.named_parameters():
        stack = next((stack for stack in stacks if name.startswith(stack)), None)
        if stack is not None:
            seen = True
            depths[name] = n - int(name.removeprefix(stack).partition(".")[0])
        else:
            early = not seen or any(
                word in name for word in ("embed", "relative")
            )  # DeBERTa has some behind its blocks
            depths[name] = n + 1 if stacks and early else 0
    return depths
