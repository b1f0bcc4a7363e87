"""Questions as training, validation and test batches: which, in which order, with which labels."""

from __future__ import annotations

import json
import shutil
import warnings

import numpy as np
import pytest
import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn
from transformers import AutoTokenizer

from hwaware.data import SquadData, TextInputs
from hwaware.data.contract import TakesSamples
from hwaware.data.loading import LengthGroupedSampler, ResumableSampler
from hwaware.data.squad_files import read_questions
from hwaware.errors import UserError

OPTIONS = {"max_length": 64, "stride": 24, "batch_size": 16, "eval_batch_size": 50, "seed": 3}


@pytest.fixture(scope="module")
def tokenizer(tiny_reader):
    return AutoTokenizer.from_pretrained(tiny_reader / "model")


@pytest.fixture(scope="module")
def make(tiny_reader, tokenizer):
    """A data module of the tiny reader's questions."""

    def make(stage=None, tokenizer=tokenizer, **options) -> SquadData:
        data = SquadData(**({"path": str(tiny_reader / "data")} | OPTIONS | options))
        data.inputs = tokenizer and TextInputs(tokenizer)
        data.setup(stage)
        return data

    return make


@pytest.fixture(scope="module")
def ready(make):
    return make()


def titles(data: SquadData, number: int) -> set[str]:
    return {one.title for one in data.windows[number].questions}


def test_splits(ready, tiny_reader):
    train, dev = (read_questions([tiny_reader / "data" / f"{split}.json"]) for split in ("train", "dev"))
    assert list(ready.windows[2].questions) == dev
    assert len(titles(ready, 1)) == 1  # a tenth of twelve articles
    assert titles(ready, 0) | titles(ready, 1) == {one.title for one in train}
    assert not titles(ready, 0) & titles(ready, 1)
    assert len(ready.windows[0].questions) + len(ready.windows[1].questions) == len(train)
    counts = (ready.n_train, ready.n_val, ready.n_test)
    assert counts == tuple(len(ready.windows[number]) for number in range(3))  # windows
    assert ready.n_scored("test") == len(dev) < ready.n_test
    assert ready.dataset_name == "data" and SquadData("them/squad_v2").dataset_name == "squad_v2"


def test_the_default_articles_to_validate_on_are_always_the_same(ready, make):
    assert titles(make("validate", seed=4), 1) == titles(ready, 1)


def test_only_what_a_stage_needs_is_tokenised(make):
    assert {stage: set(make(stage).windows) for stage in ("fit", "validate", "test")} == {
        "fit": {0, 1},
        "validate": {1},
        "test": {2},
    }


def test_articles_to_validate_on(ready, make):
    chosen = sorted(titles(ready, 0))[:2]
    data = make("fit", val_articles=chosen)
    assert titles(data, 1) == set(chosen) and not titles(data, 0) & set(chosen)
    wrong = chosen[0][:-1]
    with pytest.raises(UserError, match=f"there is no training article '{wrong}'. Did you mean '{chosen[0]}'"):
        make("fit", val_articles=[wrong])
    for articles in ([], sorted(titles(ready, 0) | titles(ready, 1))):
        with pytest.raises(UserError, match=f"{len(articles)} of 12 training articles are set aside"):
            make("fit", val_articles=articles)


@pytest.mark.parametrize("title", [None, "all"])
def test_paragraphs_are_kept_whole_where_titles_tell_no_articles_apart(tiny_reader, make, tmp_path, title):
    for split in ("train", "dev"):
        asked = read_questions([tiny_reader / "data" / f"{split}.json"])
        rows = [
            {"id": one.id, "context": one.context, "question": one.text}
            | {"answers": {"text": one.answers, "answer_start": one.starts}}
            | ({} if title is None else {"title": title})
            for one in asked
        ]
        (tmp_path / f"{split}.json").write_text(json.dumps(rows))
    data = make("fit", path=str(tmp_path))
    train, val = ({one.context for one in data.windows[number].questions} for number in (0, 1))
    assert len(val) == (len(train) + len(val)) // 10 and not train & val
    with pytest.raises(UserError, match="1 of 1 training articles are set aside"):
        make("fit", path=str(tmp_path), val_articles=[title or ""])
    with pytest.raises(UserError, match="none of 1 training articles is left"):
        make("fit", path=str(tmp_path), skip_articles=[title or ""])


def test_articles_not_to_train_on(ready, make):
    trained = sorted(titles(ready, 0))
    data = make("fit", skip_articles=trained[:3])
    assert titles(data, 0) == set(trained[3:]) and titles(data, 1) == titles(ready, 1)
    assert data.n_train < ready.n_train
    wrong = trained[0][:-1]
    with pytest.raises(UserError, match=f"skip_articles: there is no training article '{wrong}'. .*'{trained[0]}'"):
        make("fit", skip_articles=[wrong])
    with pytest.raises(UserError, match=r"none of 12 training articles is left to train on; skip at most 10"):
        make("fit", skip_articles=trained)


def test_a_subset_of_the_test_questions(ready, make):
    some, more = (make("test", test_subset=n).windows[2].questions for n in (30, 90))
    assert len(some) == 30 and set(some) < set(more)
    assert sum(not one.answers for one in some) == 10  # a third, as of all
    assert make("test", test_subset=30, seed=9).windows[2].questions == some
    with pytest.raises(UserError, match=r"test_subset=217 must lie in 1 … 216"):
        make("test", test_subset=217)


@pytest.fixture
def changed(tiny_reader, tmp_path):
    """A copy of the data, to change by a function of its articles."""

    def changed(change, split="train"):
        folder = tmp_path / "data"
        if not folder.exists():
            shutil.copytree(tiny_reader / "data", folder)
        content = json.loads((folder / f"{split}.json").read_text())
        change(content["data"])
        (folder / f"{split}.json").write_text(json.dumps(content))
        return str(folder)

    return changed


def misplace(paragraph) -> str:
    """Makes the paragraph lack the answer to its first answerable question, whose id is returned."""
    asked = next(one for one in paragraph["qas"] if one["answers"])
    for answer in asked["answers"]:
        answer["text"] = "a text that stands nowhere"
    return asked["id"]


def test_answers_that_the_paragraph_lacks_are_left_out_of_training_only(ready, make, changed):
    aside, lost = next(iter(titles(ready, 1))), {}

    def change(articles):
        for article in articles:
            for number in (0, 1):
                name = "val" if article["title"] == aside else "train"
                lost.setdefault(name, []).append(misplace(article["paragraphs"][number]))

    folder = changed(change)
    changed(lambda articles: lost.update(test=[misplace(articles[0]["paragraphs"][0])]), "dev")
    with pytest.warns(UserWarning, match="left out") as caught:
        data = make(path=folder)
    (message,) = [str(one.message) for one in caught if "left out" in str(one.message)]
    n = len(ready.windows[0].questions)
    assert message.startswith(f"22 of {n} training questions are left out")
    assert f"'{lost['train'][0]}'" in message and "'a text that stands nowhere'" in message
    kept = {number: {one.id for one in data.windows[number].questions} for number in range(3)}
    assert len(kept[0]) == n - 22 and not kept[0] & set(lost["train"])
    assert set(lost["val"]) <= kept[1] and set(lost["test"]) <= kept[2]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"source": "hbu"}, "unknown source 'hbu' of questions. Did you mean 'hub'"),
        ({"path": None}, "data.path is missing: a folder with train.json and dev.json, or a name on the hub"),
        ({"path": "nowhere", "source": "local"}, "there is no folder 'nowhere' with questions"),
        ({"path": "/no/where"}, "there is no folder '/no/where' with questions"),
        ({"batch_size": 0}, "batch_size=0 is below 1"),
        ({"max_length": 20}, "max_length=20 is too short for stride=24"),
        ({"tokenizer": None}, "SquadData does not know the network's tokenizer"),
    ],
)
def test_wrong_settings(make, options, reason):
    with pytest.raises(UserError, match=reason):
        make("fit", **options)


def test_a_folder_without_the_split(make, tiny_reader, tmp_path):
    shutil.copy(tiny_reader / "data" / "dev.json", tmp_path)
    assert make("test", path=str(tmp_path)).n_test
    with pytest.raises(UserError, match=r"has no train file \(train.json and dev.json are usual\)"):
        make("fit", path=str(tmp_path))


def test_more_windows_to_a_batch_than_there_are(make):
    data = make("fit", batch_size=5000)
    with pytest.raises(UserError, match=r"batch_size=5000 is above the \d+ training windows of a process"):
        data.train_dataloader()


def test_a_batch_is_its_windows_padded(ready):
    """Shape, mask, padding and labels, against the windows that the places name."""
    for loader in (ready.train_dataloader(), ready.val_dataloader(), ready.test_dataloader()):
        ids, mask, types, start, end, places = batch = next(iter(loader))
        assert all(part.dtype == torch.int64 for part in batch)
        windows = ready.windows[int(places[0, 0])]
        length = torch.as_tensor(windows.length[places[:, 1]])
        assert ids.shape == mask.shape == types.shape == (len(places), length.max())
        torch.testing.assert_close(mask.sum(1), length)
        for row, window in enumerate(places[:, 1]):
            there = mask[row].bool()
            tokens, kinds = windows.part(int(window))
            assert ids[row][there].tolist() == tokens.tolist() and types[row][there].tolist() == kinds.tolist()
            assert (start[row], end[row]) == (windows.start[window], windows.end[window])
        assert (ids[mask == 0] == windows.pad[0]).all()


def test_either_side_of_padding_marks_the_same_words(make, tiny_reader):
    """The labels of a padded batch, read back as tokens."""
    found = []
    for side in ("right", "left"):
        tokenizer, words = AutoTokenizer.from_pretrained(tiny_reader / "model", padding_side=side), {}
        data = make("test", tokenizer)
        for ids, mask, _, start, end, places in data.test_dataloader():
            assert (mask[:, 0] == 1).all() and (mask.diff(dim=1) <= 0).all()  # at the end, whatever the tokenizer says
            for row, (_, window) in enumerate(places.tolist()):
                windows = data.windows[2]
                one = windows.questions[windows.question[window]]
                part = tuple(map(tuple, windows.offsets(window).tolist()))
                words[one.id, part] = tokenizer.convert_ids_to_tokens(ids[row, start[row] : end[row] + 1])
        found.append(words)
    assert found[0] == found[1]
    assert ["[CLS]"] in found[0].values() and len({len(words) for words in found[0].values()}) > 1


def test_calibration_has_hardly_any_padding_and_judging_has_whole_questions(ready):
    mask = ready.calibration_batch(10)[1]
    assert mask.float().mean() > 0.9
    smaller = {tuple(place) for place in ready.calibration_batch(4)[5].tolist()}
    assert smaller < {tuple(place) for place in ready.calibration_batch(10)[5].tolist()}
    windows, n = ready.windows[1], 20
    seen = torch.cat([batch[5] for batch in ready.validation_batches(n)])[:, 1].numpy()
    assert 0 < len(seen) <= n and len(seen) == len(set(seen.tolist()))
    assert len(seen) == np.isin(windows.question, windows.question[seen]).sum()


def test_evaluation_sees_every_window_once_by_length(ready):
    places = torch.cat([batch[5] for batch in ready.test_dataloader()])
    lengths = ready.windows[2].length[places[:, 1]]
    assert sorted(places[:, 1].tolist()) == list(range(ready.n_test))
    assert (np.diff(lengths) >= 0).all()


def padding(data: SquadData, sampler) -> float:
    """Tokens computed per token of a window, over an epoch."""
    indices = [index for index, _ in sampler]
    lengths = data._datasets["train"].lengths[indices]
    batches = [lengths[at : at + 16] for at in range(0, len(lengths) // 16 * 16, 16)]
    return sum(len(batch) * batch.max() for batch in batches) / sum(batch.sum() for batch in batches)


def test_batches_of_alike_lengths_have_less_padding(make):
    data = make("fit", max_length=128)
    dataset = data._datasets["train"]
    plain, grouped = (padding(data, kind(dataset, 16, 0)) for kind in (ResumableSampler, LengthGroupedSampler))
    assert grouped - 1 < 0.2 * (plain - 1)


def test_grouping_by_length_is_a_shuffle_that_all_ranks_share(ready):
    dataset = ready._datasets["train"]
    lengths, epochs = np.asarray(dataset.lengths), []
    for epoch in range(2):
        ranks = [LengthGroupedSampler(dataset, 8, 1, 2, rank) for rank in (0, 1)]
        for sampler in ranks:
            sampler.set_epoch(epoch)
        own = [[index for index, _ in sampler] for sampler in ranks]
        assert len(own[0]) == len(own[1]) == len(dataset) // 2
        assert len(set(own[0]) | set(own[1])) == len(dataset) // 2 * 2
        means = [lengths[rank][: len(rank) // 8 * 8].reshape(-1, 8).mean(1) for rank in np.asarray(own)]
        assert np.corrcoef(*means)[0, 1] > 0.9  # none waits for another's long batch
        assert np.abs(np.corrcoef(means[0], np.arange(len(means[0])))[0, 1]) < 0.5  # not by length all along
        epochs.append(own)
    assert epochs[0] != epochs[1]


class Task(LightningModule, TakesSamples):
    """The smallest network that has a tokenizer, which remembers its batches."""

    def __init__(self, tokenizer) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.inputs, self.seen = TextInputs(tokenizer), []
        self.net = nn.Embedding(len(tokenizer), 1)

    def training_step(self, batch, batch_idx):
        self.seen.append(batch[5][:, 1].tolist())
        return self.net(batch[0]).mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(make, tokenizer, folder, ckpt_path=None, callbacks=(), **options) -> Task:
    path = make("validate").path
    task, data = Task(tokenizer), SquadData(path, **OPTIONS | {"batch_size": 64} | options)
    callbacks = [*callbacks] or [ModelCheckpoint(folder, save_top_k=0)]
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = Trainer(max_epochs=2, accelerator="cpu", callbacks=callbacks, default_root_dir=folder, **quiet)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*your dataloader is not resumable")
        trainer.fit(task, datamodule=data, ckpt_path=ckpt_path)
    assert task.inputs.windows == data.windows != {}
    return task


@pytest.mark.slow
def test_a_resumed_run_sees_what_it_would_have_seen(make, tokenizer, tmp_path):
    whole = fit(
        make,
        tokenizer,
        tmp_path,
        callbacks=[ModelCheckpoint(tmp_path, "{step}", None, every_n_train_steps=1, save_top_k=-1)],
    )
    steps = len(whole.seen)
    assert steps == 2 * (steps // 2) > 20
    assert fit(make, tokenizer, tmp_path, num_workers=2).seen == whole.seen
    for step in (3, steps // 2, steps // 2 + 5):
        assert fit(make, tokenizer, tmp_path, tmp_path / f"step={step}.ckpt").seen == whole.seen[step:]
    other = fit(make, tokenizer, tmp_path, seed=4).seen
    assert other != whole.seen


def test_windows_longer_than_the_network_knows(make, tokenizer, tmp_path):
    task = Task(tokenizer)
    task.inputs = TextInputs(tokenizer, max_positions=60)
    with pytest.raises(UserError, match="max_length=64 is above the 60 positions of the network"):
        Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, max_steps=1).fit(
            task, datamodule=SquadData(make("validate").path, **OPTIONS)
        )


def test_what_repairs_are_fitted_on(ready):
    first = ready.calibration_batch(20)
    assert [part.shape[0] for part in first] == [20] * 6
    again = ready.calibration_batch(10)
    assert torch.equal(again[5], first[5][:10])
    with pytest.raises(UserError, match=rf"{ready.n_val + 1} calibration windows .* there are {ready.n_val} "):
        ready.calibration_batch(ready.n_val + 1)
    batches = ready.fitting_batches(seed=1)
    places = [next(batches)[5] for _ in range(3)]
    again = ready.fitting_batches(seed=1)
    assert all(torch.equal(next(again)[5], one) for one in places)
    assert not torch.equal(next(ready.fitting_batches(seed=2))[5], places[0])
