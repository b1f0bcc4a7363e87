"""Extractive question answering with any Hugging Face transformer."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningDataModule
from torch import Tensor, nn

from hwaware.data.contract import TextInputs, samples_of
from hwaware.data.squad import SPLITS
from hwaware.errors import UserError, nearest
from hwaware.hardware import Placement
from hwaware.metrics import SquadAnswers, write_predictions
from hwaware.metrics.chance import chance_of_questions
from hwaware.models.readers import build_reader, build_tokenizer, mark, n_positions
from hwaware.nn import ConversionReport, layers_with_converters
from hwaware.tasks.base import HardwareAwareTask

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from hwaware.metrics import Answers

#: Of results' rows; the others of the official evaluation follow from them and the share of unanswerable questions.
METRICS = ("f1", "f1_has_ans", "em", "f1_must_answer")

#: In place of the logits of padding: far below any real one, and finite in half precision.
_NOWHERE = -1e4


class QuestionAnswering(HardwareAwareTask):
    """Marks the answer to a question in a paragraph, or says that it has none; for batches of SquadData.

    The threshold above which "no answer" is said is one with the best F1 on the validation questions, found for the
    exact network. It stays with the network when that is put on chips and ages: a digital number, ``null_threshold`` in
    the network's configuration and in the ``config.json`` of a run.

    Args:
        checkpoint: folder as ``save_pretrained`` writes it, or a name on the hub: of the network and its tokenizer. A
            checkpoint without a head for question answering gets a new one: train that first, without hardware.
        weights: file with all weights, in place of the checkpoint's: the ``model.safetensors`` of a run, or another
            trainer's checkpoint.
        weights_key: which weights of the latter to take; None: averaged ones, where there are some, else the usual.
        name: of the network in results; None: the checkpoint's.
        max_answer_tokens: longest answer.
        config: entries of the checkpoint's configuration that are to differ, such as rates of dropout.
        judged_by: the metric that settings and placements are chosen by; ``f1_must_answer`` for a reader that was never
            taught to refuse.
        predictions: folder that ``test`` and ``validate`` write answers to, in the official evaluation's files.
        **options: the hardware, the noise, the optimiser, …: see :class:`~hwaware.tasks.HardwareAwareTask`. Biases and
            norms get no weight decay.
    """

    label_bytes = 4  # where the answer begins and ends

    def __init__(
        self,
        checkpoint: str,
        weights: str | None = None,
        weights_key: str | None = None,
        name: str | None = None,
        max_answer_tokens: int = 30,
        config: dict[str, Any] | None = None,
        judged_by: str = METRICS[0],
        predictions: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if checkpoint is None:  # as recipes have it that every user fills in
            raise UserError("model.checkpoint is missing: a folder with config, weights and tokenizer, or a hub name.")
        if max_answer_tokens < 1:
            raise UserError(f"max_answer_tokens={max_answer_tokens} must be at least 1; 30 is usual.")
        if judged_by not in METRICS:
            raise UserError(f"judged_by='{judged_by}' is no metric of questions. {nearest(judged_by, METRICS)}")
        self.judged_by = judged_by
        self.checkpoint, self.weights, self.weights_key, self.name = checkpoint, weights, weights_key, name
        self.max_answer_tokens, self.predictions = max_answer_tokens, predictions
        self.config = config

    @property
    def network_name(self) -> str:
        return self.name or self.checkpoint.rstrip("/").rpartition("/")[2]

    @property
    def is_pretrained(self) -> bool:
        return not getattr(self.network, "head_is_new", False)

    @property
    def chance_percent(self) -> dict[str, float]:
        windows = self.inputs.windows
        if not windows:
            return {}
        asked = windows[max(windows)].questions  # of the test set, where it was read
        return chance_of_questions(100.0 * sum(not question.answers for question in asked) / len(asked))

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerFast:
        """The network's own."""
        return build_tokenizer(self.checkpoint)

    @cached_property
    def inputs(self) -> TextInputs:  # type: ignore[override]  # made of the network, not set
        return TextInputs(self.tokenizer, n_positions(self.network))

    def build_network(self, weights: str | None = None) -> nn.Module:
        key = self.weights_key if weights is None else None  # another file is judged as it is
        network = build_reader(self.checkpoint, weights or self.weights, self.config, key)
        network_config = _config(network)
        network_config.null_threshold = getattr(network_config, "null_threshold", None)
        if self.distillation is not None and getattr(network, "head_is_new", False):
            raise UserError(f"distillation: '{self.checkpoint}' has no trained head to learn from; give model.weights.")
        return network

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> tuple[Tensor, Tensor]:
        return self.predict(self.network, (input_ids, attention_mask, token_type_ids))

    def predict(self, network: nn.Module, batch: Any) -> tuple[Tensor, Tensor]:
        """Start and end logits ``[N, T]``."""
        ids, mask, types = batch[:3]
        if "token_type_ids" not in self.tokenizer.model_input_names:
            types = None
        start, end = (part.masked_fill(mask == 0, _NOWHERE) for part in mark(network, ids, mask, types))
        return start, end

    def task_loss(self, output: tuple[Tensor, Tensor], batch: Any) -> Tensor:
        start, end = (F.cross_entropy(part.float(), at) for part, at in zip(output, batch[3:5], strict=True))
        return (start + end) / 2

    def make_metrics(self, **options: Any) -> SquadAnswers:
        return SquadAnswers(self.max_answer_tokens, **options)

    def update_metrics(self, metrics: SquadAnswers, output: tuple[Tensor, Tensor], batch: Any) -> None:
        split, places = _split_of(batch), batch[5]
        metrics.update(places[:, 1], *output, self.inputs.windows[split])

    def on_test_start(self) -> None:
        super().on_test_start()
        _config(self.network).null_threshold = None  # of weights that may have changed since
        with self.trainer.precision_plugin.forward_context():
            self.calibrate(self.network, self.trainer.datamodule)

    def score(self, network: nn.Module, batches: Iterable[Any]) -> dict[str, float]:
        answers = self.answered(network, batches)
        threshold = _config(network).null_threshold
        scores = answers.scores(0.0 if threshold is None else threshold)  # logits' own, where none was chosen
        ordered = dict.fromkeys((self.judged_by, *METRICS))  # the first is judged by
        return {name: round(scores[name], 4) for name in ordered if name in scores}

    def calibrate(self, network: nn.Module, datamodule: LightningDataModule | None) -> None:
        """Measures converters' ranges and the threshold of "no answer" on validation questions, where it has none."""
        super().calibrate(network, datamodule)
        if _config(network).null_threshold is not None:
            return
        samples = samples_of(datamodule, 'the threshold of "no answer" is chosen on validation questions')
        samples.setup("validate")
        device, training = next(network.parameters()).device, network.training
        batches = ([part.to(device) for part in batch] for batch in samples.every_sample("val"))
        found = [self.answered(network.eval(), batches).kept_threshold()]
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.broadcast_object_list(found)  # every rank's chips are judged alike
        _config(network).null_threshold = found[0]
        network.train(training)

    def _calibrate(self) -> None:
        if layers_with_converters(self.network):  # the ranges alone: the threshold is of weights that are done
            super().calibrate(self.network, self.trainer.datamodule)

    def on_fit_start(self) -> None:
        super().on_fit_start()
        _config(self.network).null_threshold = None  # of the weights that training starts from

    def convert(self, network: nn.Module, placement: Placement, corrected: bool = True) -> ConversionReport:
        report = super().convert(network, placement, corrected)
        if layers_with_converters(network):
            _config(network).null_threshold = None  # it is another exact network
        return report

    def decays(self, name: str, parameter: nn.Parameter) -> bool:
        return parameter.ndim > 1

    def save_beside(self, folder: Path) -> None:
        """Writes configuration and tokenizer, with which transformers loads the folder's ``model.safetensors``."""
        _config(self.network).save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)

    @torch.no_grad()
    def answered(self, network: nn.Module, batches: Iterable[Any]) -> Answers:
        """What any network (not only this task's) answers to the questions of batches that lie on its device."""
        # Ranks score different chips: nothing to be pooled.
        metric = self.make_metrics(n_best=1, sync_on_compute=False).to(next(network.parameters()).device)
        split = 0
        for batch in batches:
            self.update_metrics(metric, self.predict(network, batch), batch)
            split = _split_of(batch)
        return metric.answers(self.inputs.windows[split])

    def conclude(self, stage: str, metric: SquadAnswers) -> None:
        """Logs the scores of all ranks' answers: validation's at the best threshold, test's at the network's own."""
        windows = self.inputs.windows[SPLITS.index(stage)]
        answers = metric.answers(windows)
        own = _config(self.network).null_threshold if stage == "test" else None
        threshold = answers.best_threshold() if own is None else own
        scores = answers.scores(threshold)
        logged = {f"{stage}/{name}": value for name, value in (scores | {"null_threshold": threshold}).items()}
        self.log_dict(logged, prog_bar=stage == "val", sync_dist=True)  # equal already: it spares Lightning's warning
        if self.predictions is not None and self.trainer.state.fn != "fit" and self.trainer.is_global_zero:
            write_predictions(self.predictions, answers, metric.n_best(windows), threshold)
        metric.reset()


def _config(network: nn.Module) -> Any:
    """A network's configuration, which takes any entry, and has "null_threshold" of this package."""
    return network.config


def _split_of(batch: Any) -> int:
    """The number of the split that a batch is of."""
    return int(batch[5][0, 0])
