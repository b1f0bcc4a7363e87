"""Readers from the command line: taught, finetuned for cells, aged, repaired, exported."""

from __future__ import annotations

import csv
import json
import re
import signal
import time

import pytest
import torch
from safetensors.torch import load_file
from torchmetrics.functional.text import squad as torchmetrics_squad
from transformers import AutoModelForQuestionAnswering, AutoTokenizer

from hwaware.cli.main import main
from hwaware.data.squad_files import read_questions
from hwaware.export.bundle import read_bundle
from hwaware.metrics import exact_match, f1
from tests.callbacks.test_record import _records
from tests.command_line import ROOT, measured, run
from tests.processes import run_process

pytestmark = pytest.mark.slow

DIGITAL, FINETUNE = (str(ROOT / "recipes" / f"squad2_tiny{kind}.yaml") for kind in ("_digital", ""))
OLD = 315_360_000.0
KILLER = ("--trainer.callbacks", "tests.tiny.KillAt", "--trainer.callbacks.step")
TWO = ("--trainer.devices", 2, "--trainer.strategy", "ddp")


@pytest.fixture(scope="module")
def arguments(tiny_reader, taught_reader):
    """A command with the tiny recipe, on few chips and ages."""

    def arguments(command, folder=None, recipe=FINETUNE) -> list[str]:
        what = ["--model.checkpoint", taught_reader, "--data.path", tiny_reader / "data"]
        few = ["--evaluation.n_chips", 2, "--evaluation.ages_s", f"[0, {OLD}]"]
        where = ["--trainer.default_root_dir", folder] if folder else []
        quiet = ["--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]
        return [str(one) for one in (command, "--config", recipe, *what, *few, *where, *quiet)]

    return arguments


@pytest.fixture(scope="module")
def finetuned(arguments, tmp_path_factory):
    """The folder of a short finetune."""
    folder = tmp_path_factory.mktemp("finetuned")
    run(*arguments("fit", folder), "--trainer.max_epochs", 1)
    return folder / "squad2_tiny" / "version_0"


def test_the_digital_recipe_teaches(taught_reader):
    lines = list(csv.DictReader((taught_reader / "metrics.csv").open()))
    last = next(line for line in reversed(lines) if line["val/f1"])
    assert float(last["val/f1_has_ans"]) > 50 and float(last["val/f1"]) > 60
    assert not (taught_reader / "rows.csv").exists()


def test_rows_of_a_finetune(finetuned, tiny_reader):
    rows = measured(finetuned / "rows.csv")
    questions = read_questions([tiny_reader / "data" / "dev.json"])
    # networks, chips, ages, metrics
    assert len(rows) == 2 * 2 * 2 * 4 and {row.network for row in rows} == {"base", "finetuned"}
    assert {row.metric for row in rows} == {"f1", "f1_has_ans", "em", "f1_must_answer"}
    assert {row.n_samples for row in rows} == {len(questions)}
    assert {(row.model, row.dataset, row.recipe) for row in rows} == {("tiny_reader", "tiny_questions", "squad2_tiny")}
    has_answers = [row for row in rows if row.metric == "f1_has_ans"]
    assert all(row.base_digital > 50 and 30 < row.value <= 100 for row in has_answers)
    assert len({row.value for row in rows}) > 5
    assert {"report.html", "summary.csv", "config.json", "tokenizer.json"} <= {
        file.name for file in finetuned.iterdir()
    }


def test_a_run_is_a_checkpoint_of_transformers(finetuned, taught_reader):
    network = AutoModelForQuestionAnswering.from_pretrained(finetuned, dtype=torch.float32).eval()
    state = load_file(finetuned / "model.safetensors")
    assert network.state_dict().keys() == state.keys()
    assert all(torch.equal(tensor, state[key]) for key, tensor in network.state_dict().items())
    before = load_file(taught_reader / "model.safetensors")
    assert not torch.equal(before["qa_outputs.weight"], state["qa_outputs.weight"])
    tokenizer = AutoTokenizer.from_pretrained(finetuned)
    context = "This is the Orsby Library. It stands on the river Elva. It was built in 1716."
    inputs = tokenizer("On which river does the Orsby Library stand?", context, return_tensors="pt")
    with torch.no_grad():
        output = network(**inputs)
    start = int(output.start_logits[0, 12:].argmax()) + 12  # past the question
    assert "elva".startswith(tokenizer.decode(inputs["input_ids"][0, start]))


def test_drift_repeats_the_rows_of_the_run(arguments, finetuned, tmp_path):
    run(*arguments("drift", tmp_path), "--weights", finetuned / "model.safetensors")
    rows = measured(tmp_path / "squad2_tiny" / "version_0" / "rows.csv")
    assert rows == measured(finetuned / "rows.csv")


def test_predictions_score_as_the_logged_metrics_say(arguments, tiny_reader, tmp_path, capsys):
    """Written by ``hwaware test``, scored anew text by text, and by torchmetrics."""
    run(*arguments("test", recipe=DIGITAL), "--model.predictions", tmp_path, "--model.hardware", "null")
    logged = dict(re.findall(r"test/(\w+)\s+│\s+([\d.]+)", capsys.readouterr().out))
    predictions, null_odds, n_best = (
        json.loads((tmp_path / f"{name}.json").read_text())
        for name in ("predictions", "null_odds", "nbest_predictions")
    )
    questions = read_questions([tiny_reader / "data" / "dev.json"])
    ids = {one.id for one in questions}
    assert predictions.keys() == null_odds.keys() == n_best.keys() == ids
    assert all(isinstance(odds, float) for odds in null_odds.values())

    def mean(score, some) -> float:
        return 100 * sum(score(predictions[one.id], one.answers) for one in some) / len(some)

    groups = {"": questions, "_has_ans": [one for one in questions if one.answers]}
    groups["_no_ans"] = [one for one in questions if not one.answers]
    for group, some in groups.items():
        assert float(logged[f"f1{group}"]) == pytest.approx(mean(f1, some), abs=1e-3)
        assert float(logged[f"em{group}"]) == pytest.approx(mean(exact_match, some), abs=1e-3)
    said = [{"id": one.id, "prediction_text": predictions[one.id]} for one in questions]
    gold = [
        {"id": one.id, "answers": {"text": list(one.answers) or [""], "answer_start": list(one.starts) or [0]}}
        for one in questions
    ]
    theirs = torchmetrics_squad(said, gold)
    assert float(logged["f1"]) == pytest.approx(float(theirs["f1"]), abs=1e-3)
    assert float(logged["em"]) == pytest.approx(float(theirs["exact_match"]), abs=1e-3)
    assert 10 < sum(not text for text in predictions.values()) < 200
    for one in questions:  # a text of the paragraph, as it stands there
        assert predictions[one.id] in one.context


METHODS = (
    "[{class_path: VeraPlus, init_args: {steps: 3}}, {class_path: Dora, init_args: {images: 8, steps: 3}}, "
    "{class_path: GlobalDriftCompensation}, {class_path: NullThreshold, init_args: {chips: 2, questions: 40}}]"
)


def test_compare(arguments, finetuned, tmp_path):
    options = ("--evaluation.methods", METHODS, "--evaluation.networks", "[finetuned]", "--evaluation.n_chips", 1)
    run(*arguments("compare", tmp_path), *options, "--weights", finetuned)
    folder = tmp_path / "squad2_tiny" / "version_0"
    rows = measured(folder / "rows.csv")
    assert {row.method for row in rows} >= {"none", "vera_plus", "dora", "threshold"} and len(rows) >= 3 * 3
    aged = {row.method: row for row in rows if row.age_s == OLD and row.metric == "f1"}
    assert all(row.value > 40 for row in aged.values()) and len({row.n_samples for row in rows}) == 1
    costs = {line["method"]: line for line in csv.DictReader((folder / "costs.csv").open())}
    assert float(costs["vera_plus"]["bytes_stored"]) > 0 and float(costs["dora"]["bytes_stored"]) > 0
    assert float(costs["threshold"]["bytes_stored"]) == 2 and float(costs["threshold"]["extra_macs_percent"]) == 0


def test_export(arguments, finetuned, tmp_path, capsys):
    schedule = ("--evaluation.schedule.instances", 2, "--evaluation.schedule.target_percent", 80)
    methods = ("--evaluation.methods", "[{class_path: VeraPlus, init_args: {steps: 2}}]")
    run(*arguments("export"), "--weights", finetuned, "--out", tmp_path / "bundle", *methods, *schedule)
    assert "validation" in capsys.readouterr().out
    bundle = read_bundle(tmp_path / "bundle")
    assert bundle.network == "tiny_reader" and "qa_outputs" in bundle.targets and len(bundle.targets) == 2 * 6 + 1
    kept = json.loads((finetuned / "config.json").read_text())["null_threshold"]
    assert isinstance(kept, float) and bundle.beside == {"null_threshold": kept}  # the finetuned network's, not base's
    network = AutoModelForQuestionAnswering.from_pretrained(finetuned, dtype=torch.float32).eval()
    bundle.install(network)
    inputs = {"input_ids": torch.arange(5, 45)[None]}
    plain = AutoModelForQuestionAnswering.from_pretrained(finetuned, dtype=torch.float32).eval()
    with torch.no_grad():
        torch.testing.assert_close(network(**inputs).start_logits, plain(**inputs).start_logits, rtol=1e-3, atol=1e-3)


def test_sensitivity(arguments, finetuned, tmp_path):
    run(*arguments("sensitivity", tmp_path), "--weights", finetuned, "--chips", 1)
    lines = list(csv.DictReader((tmp_path / "squad2_tiny" / "version_0" / "sensitivity.csv").open()))
    assert len(lines) == 13 and {line["model"] for line in lines} == {"tiny_reader"}
    assert float(lines[0]["noise_nats"]) > 0


@pytest.mark.parametrize("command", ["push", "onnx"])
def test_what_is_for_image_classifiers_alone_says_so(command, arguments, finetuned, tmp_path, capsys):
    out = tmp_path / ("network.onnx" if command == "onnx" else "folder")
    assert main([*arguments(command), "--weights", str(finetuned), "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"hwaware: {command}: QuestionAnswering ") and len(error.splitlines()) == 1
    assert not out.exists()


def test_a_new_head_is_not_put_on_a_chip(arguments, tiny_reader, capsys):
    command = [*arguments("fit"), "--model.checkpoint", str(tiny_reader / "model"), "--model.distillation", "null"]
    assert main(command) == 2
    assert "there is no pretrained network to finetune for the device" in capsys.readouterr().err


def test_a_killed_run_resumes_bit_for_bit(arguments, tmp_path):
    """With dropout, noise of every step, and batches grouped by length; killed in the middle of the second epoch."""
    dropout = ("--model.config", "{hidden_dropout_prob: 0.1, attention_probs_dropout_prob: 0.1}")
    options = (*dropout, "--data.batch_size", 128, "--trainer.max_epochs", 2, "--evaluation.networks", "[]")
    options += ("--checkpoint.every_n_train_steps", 4)
    common = [*arguments("fit", "."), *options]
    killed = run_process(*common, *KILLER, 18, "--trainer.callbacks.point", "batch_start", cwd=tmp_path)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    folder = tmp_path / "squad2_tiny"
    assert not list(folder.rglob("model.safetensors")) and list(folder.rglob("last*.ckpt"))
    run(*arguments("fit", tmp_path), *options, "--ckpt_path", "last")
    run(*arguments("fit", tmp_path), *options)
    resumed, whole = (load_file(folder / f"version_{number}" / "model.safetensors") for number in (1, 2))
    assert [key for key in whole if not whole[key].equal(resumed[key])] == []


def test_two_processes_validate_and_age_like_one(arguments, tmp_path):
    """A fit at learning rate zero: validation shares windows out, ageing chips; both score the same network."""
    still = ("--model.optimizer.init_args.lr", 0, "--trainer.limit_train_batches", 1, "--trainer.max_epochs", 1)
    still += ("--evaluation.networks", "[finetuned]", "--evaluation.ages_s", f"[{OLD}]", "--data.eval_batch_size", 7)
    done = run_process(*arguments("fit", tmp_path / "two"), *still, *TWO, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    run(*arguments("fit", tmp_path / "one"), *still)
    one, two = (tmp_path / name / "squad2_tiny" / "version_0" for name in ("one", "two"))
    scores = []
    for folder in (one, two):
        lines = csv.DictReader((folder / "metrics.csv").open())
        (line,) = [line for line in lines if line["val/f1"]]
        scores.append({name: float(value) for name, value in line.items() if name.startswith("val/")})
    loss = [score.pop("val/loss") for score in scores]
    assert scores[0] == scores[1] and scores[0]["val/f1"] > 50
    assert loss[0] == pytest.approx(loss[1], rel=1e-4)
    assert measured(one / "rows.csv") == measured(two / "rows.csv")


def test_an_offline_run_of_weights_and_biases(arguments, tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.chdir(tmp_path)
    # wandb's service may be running since an earlier test, and resolves relative paths in that one's folder.
    logger = f"{{class_path: WandbLogger, init_args: {{offline: true, project: tests, save_dir: {tmp_path}}}}}"
    options = ("--trainer.logger", logger, "--trainer.max_epochs", 1, "--trainer.limit_train_batches", 2)
    run(*arguments("fit"), *options, "--trainer.log_every_n_steps", 1)
    (file,) = (tmp_path / "wandb").glob("offline-run-*/run-*.wandb")
    for _ in range(100):  # wandb's own process may still be writing
        if any(record.WhichOneof("record_type") == "exit" for record in _records(file)):
            break
        time.sleep(0.1)
    keys = set()
    for record in _records(file):
        if record.WhichOneof("record_type") == "history":
            keys |= {item.key or item.nested_key[0] for item in record.history.item}
    assert {"train/task_loss", "val/f1", "val/f1_has_ans", "val/em", "val/loss", "drift/rows"} <= keys
    assert {f"drift/mean/reram_cmo_differential_{metric}/finetuned" for metric in ("f1", "f1_has_ans", "em")} <= keys


def test_a_trial_run(arguments, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run(*arguments("fit"), "--trainer.fast_dev_run", "true")
    assert not list(tmp_path.rglob("*.safetensors"))
