"""A folder for runs, with the networks that several cases start from."""

from __future__ import annotations

import collections
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import tests.tiny  # noqa: F401 - registers the tiny network
from hwaware.cli.main import main as command_line
from scripts import make_tiny_reader

ROOT = Path(__file__).resolve().parents[2]
SEED = 0
TEN_YEARS_S = 315_360_000.0
AGES_S = (0.0, 86400.0, TEN_YEARS_S)

# A digital network on digits; what cells hold it is added by `hardware.device_keys`.
RECIPE = f"""\
seed_everything: {SEED}
model:
  class_path: ImageClassification
  init_args:
    name: tiny_test_net
    num_classes: 10
    optimizer:
      class_path: torch.optim.SGD
      init_args: {{lr: 0.05, momentum: 0.9}}
    scheduler:
      class_path: WarmupCosine
      init_args: {{warmup_steps: 3}}
data:
  class_path: ImageData
  init_args: {{source: digits, batch_size: 128, augment: crop}}
evaluation:
  n_chips: 2
  ages_s: {list(AGES_S)}
  networks: [base]
trainer:
  accelerator: cpu
  max_epochs: 1
  log_every_n_steps: 1
  enable_progress_bar: false
checkpoint:
  every_n_train_steps: 3
"""


@dataclass
class Workplace:
    """A folder for runs, with the networks that several cases start from, made when first needed."""

    folder: Path
    _made: dict[str, Path] = field(default_factory=dict)

    @property
    def recipe(self) -> Path:
        path = self.folder / "golden.yaml"
        if not path.exists():
            path.write_text(RECIPE)
        return path

    def run(self, *arguments: object) -> None:
        """A command in this process, which must succeed."""
        status = command_line([str(argument) for argument in arguments])
        if status:
            raise RuntimeError(f"hwaware {' '.join(map(str, arguments))} ended with {status}")

    def tiny(self, command: str, case: str, *arguments: object) -> Path:
        """A command with the tiny network as pretrained; returns the run's folder."""
        root = self.folder / case
        self.run(*self.tiny_arguments(command, root), *arguments)
        return latest(root)

    def tiny_arguments(self, command: str, root: Path) -> list[object]:
        weights = ("--model.weights", self.pretrained())
        return [command, "--config", self.recipe, *weights, "--trainer.default_root_dir", root]

    def pretrained(self) -> Path:
        """Weights of the tiny network after some digital training."""
        return self._once("pretrained", self._pretrain) / "model.safetensors"

    def reader(self) -> Path:
        """Folder with ``data`` and ``model``, a reader of random weights."""
        return self._once("reader", self._make_reader)

    def taught_reader(self) -> Path:
        """The folder of the reader's digital run."""
        return self._once("taught", self._teach)

    def _once(self, name: str, make: Callable[[], Path]) -> Path:
        if name not in self._made:
            self._made[name] = make()
        return self._made[name]

    def _pretrain(self) -> Path:
        root = self.folder / "pretrained"
        self.run("fit", "--config", self.recipe, "--trainer.default_root_dir", root, "--trainer.max_epochs", 2)
        return latest(root)

    def _make_reader(self) -> Path:
        folder = self.folder / "tiny_reader"
        make_tiny_reader.make(folder)
        fix_vocabulary(folder / "model" / "tokenizer.json", sorted((folder / "data").glob("*.json")))
        return folder

    def _teach(self) -> Path:
        root = self.folder / "taught"
        recipe = ROOT / "recipes" / "squad2_tiny_digital.yaml"
        self.run(*self.reader_arguments("fit", recipe, self.reader() / "model", root), "--trainer.max_epochs", 2)
        return latest(root)

    def reader_arguments(self, command: str, recipe: Path, checkpoint: Path, root: Path) -> list[object]:
        what = ("--model.checkpoint", checkpoint, "--data.path", self.reader() / "data")
        where = ("--trainer.default_root_dir", root, "--trainer.accelerator", "cpu")
        where += ("--trainer.enable_progress_bar", "false", "--trainer.log_every_n_steps", 1)
        return [command, "--config", recipe, *what, *where]


def fix_vocabulary(tokenizer: Path, texts: list[Path]) -> None:
    """Gives a tokenizer the same words each time: those that it learns differ between equal runs, where counts tie."""
    content = json.loads(tokenizer.read_text())
    counts = collections.Counter(re.findall(r"[a-z]+|[0-9]|[^a-z0-9\s]", "\n".join(map(Path.read_text, texts)).lower()))
    characters = sorted({character for word in counts for character in word})
    special = [token["content"] for token in sorted(content["added_tokens"], key=lambda token: token["id"])]
    words = sorted(counts.keys() - set(characters), key=lambda word: (-counts[word], word))
    vocabulary = [*special, *characters, *(f"##{character}" for character in characters), *words]
    # No more than the network has embeddings for.
    content["model"]["vocab"] = {token: i for i, token in enumerate(vocabulary[: len(content["model"]["vocab"])])}
    tokenizer.write_text(json.dumps(content))


def latest(root: Path) -> Path:
    """The folder of the last run in a folder of runs."""
    found = sorted(root.glob("*/version_*"), key=lambda path: int(path.name.removeprefix("version_")))
    return found[-1]
