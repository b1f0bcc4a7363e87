from hwaware.cli.main import main
from tests.command_line import FINETUNE, pretrained_weights


def test_a_run_that_diverges_ends_with_the_reason(tmp_path, capsys):
    common = ["fit", "--config", FINETUNE, "--model.weights", str(pretrained_weights())]
    assert main([*common, "--model.optimizer.init_args.lr", "1e9", "--trainer.default_root_dir", str(tmp_path)]) == 2
    *_, last = capsys.readouterr().err.strip().splitlines()
    assert last.startswith("hwaware: training diverged: the loss is nan at step ") and "gradient_clip_val" in last
    assert not [file for name in ("*.ckpt", "model.safetensors", "rows.csv") for file in tmp_path.rglob(name)]
