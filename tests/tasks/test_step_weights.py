"""``--model.weights_way compiled``, from the command line."""

import os
import shutil

import pytest
import torch
from torch._inductor import config as inductor

from hwaware.cli.main import main
from hwaware.models.weight_files import CHECKPOINT_KEY
from tests.command_line import FINETUNE, pretrained_weights, run

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not shutil.which(os.environ.get("CXX", "g++")), reason="there is no C++ compiler"),
]


def test_a_run_by_the_compiler_trains_and_resuming_another_way_is_told(tmp_path, capsys):
    recipe = ("fit", "--config", FINETUNE, "--model.weights", pretrained_weights(), "--evaluation.networks", "[]")
    recipe += ("--trainer.default_root_dir", tmp_path)
    with inductor.patch(compile_threads=1):  # more are processes that import torch
        run(*recipe, "--trainer.max_steps", 3, "--model.weights_way", "compiled")
    folder = tmp_path / "finetune" / "version_0"
    checkpoint = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    assert checkpoint["global_step"] == 3 and checkpoint[CHECKPOINT_KEY]["weights_way"] == "compiled"
    assert (folder / "model.safetensors").is_file()

    other = (*recipe, "--trainer.max_steps", 4, "--model.weights_way", "by_layer", "--ckpt_path")
    assert main([str(word) for word in (*other, "last")]) == 2
    assert "model.weights_way: compiled in that run, by_layer now" in capsys.readouterr().err
    with pytest.warns(
        UserWarning, match="the run began with 'compiled' and continues with 'by_layer'; not bit-identical"
    ):
        run(*other, folder / "checkpoints" / "last.ckpt")
