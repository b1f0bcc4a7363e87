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

#: Metrics in result rows; the others of the official evaluation follow from them and the unanswerable share.
METRICS = ("f1", "f1_has_ans", "em", "f1_must_answer")

#: Replaces the logits of padding: far below any real logit, and finite in half precision.
_NOWHERE = -1e4


class QuestionAnswering(HardwareAwareTask):
    """Extracts the answer to a question from a paragraph, or "no answer"; for batches of SquadData.

    The "no answer" threshold maximises F1 on the validation questions for the exact network. The network keeps it on
    chips and at all ages: it is a digital number, stored as ``null_threshold`` in the network's configuration and in
    the ``config.json`` of a run.

    Args:
        checkpoint: network and tokenizer: a folder from ``save_pretrained``, or a name on the hub. A checkpoint without
            a head for question answering gets a new one: train it first, without hardware.
        weights: file with all weights, to replace those of the checkpoint: the ``model.safetensors`` of a run, or a
            checkpoint of another trainer.
        weights_key: which weights of such a checkpoint to load; None: averaged weights if there are any, otherwise the
            usual ones.
        name: name of the network in results; None: that of the checkpoint.
        max_answer_tokens: longest answer, in tokens.
        config: entries that replace those of the checkpoint's configuration, such as dropout rates.
        judged_by: metric for choosing settings and placements; use ``f1_must_answer`` for a network that was not
            trained on unanswerable questions.
        predictions: folder for the answers of ``test`` and ``validate``, in the format of the official evaluation.
        **options: hardware, noise, optimiser, …: see :class:`~hwaware.tasks.HardwareAwareTask`. Biases and norms get no
            weight decay.
    """

    label_bytes = 4  # start and end of the answer

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
        if checkpoint is None:  # as in recipes, where users fill it in
            raise UserError("model.checkpoint is missing: a folder with config, weights and tokenizer, or a hub name.")
        if max_answer_tokens < 1:
            raise UserError(f"max_answer_tokens={max_answer_tokens} must be at least 1; 30 is usual.")
        if judged_by not in METRICS:
            raise UserError(
                f"judged_by='{judged_by}' is not a question-answering metric. {nearest(judged_by, METRICS)}"
            )
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
        asked = windows[max(windows)].questions  # those of the test set, if it was read
        return chance_of_questions(100.0 * sum(not question.answers for question in asked) / len(asked))

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerFast:
        """The tokenizer of the network."""
        return build_tokenizer(self.checkpoint)

    @cached_property
    def inputs(self) -> TextInputs:  # type: ignore[override]  # derived from the network, not set
        return TextInputs(self.tokenizer, n_positions(self.network))

    def build_network(self, weights: str | None = None) -> nn.Module:
        key = self.weights_key if weights is None else None  # the key is for the initial weights only
        network = build_reader(self.checkpoint, weights or self.weights, self.config, key)
        network_config = _config(network)
        network_config.null_threshold = getattr(network_config, "null_threshold", None)
        if self.distillation is not None and getattr(network, "head_is_new", False):
            raise UserError(
                f"distillation: '{self.checkpoint}' has no trained head to distil from; give model.weights."
            )
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
        _config(self.network).null_threshold = None  # the weights may have changed since
        with self.trainer.precision_plugin.forward_context():
            self.calibrate(self.network, self.trainer.datamodule)

    def score(self, network: nn.Module, batches: Iterable[Any]) -> dict[str, float]:
        answers = self.answered(network, batches)
        threshold = _config(network).null_threshold
        scores = answers.scores(0.0 if threshold is None else threshold)  # 0 if no threshold was chosen
        ordered = dict.fromkeys((self.judged_by, *METRICS))  # the first is the metric for decisions
        return {name: round(scores[name], 4) for name in ordered if name in scores}

    def calibrate(self, network: nn.Module, datamodule: LightningDataModule | None) -> None:
        """Measures missing ranges of converters and a missing "no answer" threshold on validation questions."""
        super().calibrate(network, datamodule)
        if _config(network).null_threshold is not None:
            return
        samples = samples_of(datamodule, 'the "no answer" threshold is chosen on validation questions')
        samples.setup("validate")
        device, training = next(network.parameters()).device, network.training
        batches = ([part.to(device) for part in batch] for batch in samples.every_sample("val"))
        found = [self.answered(network.eval(), batches).kept_threshold()]
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.broadcast_object_list(found)  # the same threshold on every rank
        _config(network).null_threshold = found[0]
        network.train(training)

    def _calibrate(self) -> None:
        if layers_with_converters(self.network):  # only the ranges: the threshold needs the final weights
            super().calibrate(self.network, self.trainer.datamodule)

    def on_fit_start(self) -> None:
        super().on_fit_start()
        _config(self.network).null_threshold = None  # it belongs to the weights before training

    def convert(self, network: nn.Module, placement: Placement, corrected: bool = True) -> ConversionReport:
        report = super().convert(network, placement, corrected)
        if layers_with_converters(network):
            _config(network).null_threshold = None  # the exact network has changed
        return report

    def decays(self, name: str, parameter: nn.Parameter) -> bool:
        return parameter.ndim > 1

    def save_beside(self, folder: Path) -> None:
        """Writes configuration and tokenizer, so that transformers can load the folder."""
        _config(self.network).save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)

    @torch.no_grad()
    def answered(self, network: nn.Module, batches: Iterable[Any]) -> Answers:
        """Answers of any network (not only this task's) to the questions of batches on its torch device."""
        # Ranks score different chips: nothing to be pooled.
        metric = self.make_metrics(n_best=1, sync_on_compute=False).to(next(network.parameters()).device)
        split = 0
        for batch in batches:
            self.update_metrics(metric, self.predict(network, batch), batch)
            split = _split_of(batch)
        return metric.answers(self.inputs.windows[split])

    def conclude(self, stage: str, metric: SquadAnswers) -> None:
        """Logs the scores of all ranks' answers: for validation at the best threshold, for test at the network's."""
        windows = self.inputs.windows[SPLITS.index(stage)]
        answers = metric.answers(windows)
        own = _config(self.network).null_threshold if stage == "test" else None
        threshold = answers.best_threshold() if own is None else own
        scores = answers.scores(threshold)
        logged = {f"{stage}/{name}": value for name, value in (scores | {"null_threshold": threshold}).items()}
        self.log_dict(logged, prog_bar=stage == "val", sync_dist=True)  # already equal; avoids Lightning's warning
        if self.predictions is not None and self.trainer.state.fn != "fit" and self.trainer.is_global_zero:
            write_predictions(self.predictions, answers, metric.n_best(windows), threshold)
        metric.reset()


def _config(network: nn.Module) -> Any:
    """A network's configuration, to which this package adds the entry ``null_threshold``."""
    return network.config


def _split_of(batch: Any) -> int:
    """The number of the split that a batch belongs to."""
    return int(batch[5][0, 0])
