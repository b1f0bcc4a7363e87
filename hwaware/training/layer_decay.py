"""Layer-wise learning-rate decay: layers nearer to the input get lower rates (ULMFiT, arXiv 1801.06146)."""

from __future__ import annotations

from torch import nn


def layer_depths(model: nn.Module) -> dict[str, int]:
    """Number of the network's stacked blocks that come after each parameter, by parameter name.

    The blocks are those of the longest ``ModuleList``, and of all lists beside it of the same length (an encoder and a
    decoder count alike). Parameters before the first block, and embeddings wherever they are defined, are one block
    deeper. All others, such as the head, have depth 0.
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
            early = not seen or any(word in name for word in ("embed", "relative"))  # DeBERTa has some after its blocks
            depths[name] = n + 1 if stacks and early else 0
    return depths
