#!/usr/bin/env python
"""A tiny reader and questions for it, to try question answering offline.

    python scripts/make_tiny_reader.py runs/tiny_reader

Writes ``data/train.json`` and ``data/dev.json`` (SQuAD v2's format; invented places, sentences from templates, a third
of the questions unanswerable), and ``model``: a BERT of 2 blocks, 64 wide, with random weights, without a head for
question answering, and with its own WordPiece tokenizer. The output is the same on every machine. The recipe
squad2_tiny_digital.yaml trains the network.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from transformers import BertConfig, BertModel, BertTokenizerFast
from transformers.utils import logging

ARTICLES = {"train": 12, "dev": 3}
PARAGRAPHS, QUESTIONS = 12, 6  # of an article, and of a paragraph
VOCABULARY, POSITIONS = 400, 128

_FIRST = "Ada Bo Cleo Dag Edda Finn Greta Hugo Ines Jonas".split()
_LAST = "Brennick Caldow Dorrin Eskdal Farrow Gillam Hartvig Ilmarin".split()
_VALUES = {
    "year": [str(year) for year in range(1712, 1960, 4)],
    "keeper": [f"{first} {last}" for first in _FIRST for last in _LAST],
    "colour": "green red yellow black white blue orange silver".split(),
    "stone": "granite slate sandstone brick oak timber marble flint".split(),
    "visitors": [f"{thousands},{hundreds}00" for thousands in range(2, 10) for hundreds in range(1, 10, 2)],
    "river": "Avel Brume Corra Dessen Elva Fosse Garrow Hamel".split(),
}
_SENTENCES = {
    "year": ("It was built in {}.", "The builders finished it in {}, after a long winter."),
    "keeper": ("Its first keeper was {}.", "For many years the keeper was {}, who lived nearby."),
    "colour": ("The doors are painted {}.", "Doors and window frames have been {} from the beginning."),
    "stone": ("The walls are made of {}.", "Its walls, made of {}, are thick and dry."),
    "visitors": ("About {} visitors come each summer.", "In a good summer {} visitors climb the stairs."),
    "river": ("It stands on the river {}.", "From the roof one sees the river {} and the old bridge."),
}
_ASKED = {
    "year": ("When was the {} built?", "In which year was the {} built?"),
    "keeper": ("Who was the keeper of the {}?", "Which person was the first keeper of the {}?"),
    "colour": ("What colour are the doors of the {}?", "Which colour do the doors of the {} have?"),
    "stone": ("What are the walls of the {} made of?", "Which material are the walls of the {} made of?"),
    "visitors": ("How many visitors come to the {} in summer?", "How many visitors does the {} have?"),
    "river": ("On which river does the {} stand?", "What is the river at the {} called?"),
}
_FILLERS = (
    "Most of its rooms are open on Sundays.",
    "A small garden lies behind it, with apple trees and a well.",
    "Storms have damaged the roof more than once, and it was always mended.",
    "Nobody knows why the clock runs late.",
    "The path up the hill is steep, so that most people take the bus.",
)
_PLACES = "Lighthouse Windmill Library Observatory Granary Chapel Tollhouse".split()
_TOWNS = "Tarnholm Vessel Orsby Kelmar Ruddock Lindau Marrow Pennick Sulby Wexcombe".split()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    make(parser.parse_args().out)


def make(out: Path) -> None:
    """Writes ``data`` and ``model`` into a folder."""
    draw = random.Random(0)
    names = draw.sample([f"{town} {place}" for town in _TOWNS for place in _PLACES], sum(ARTICLES.values()))
    texts: list[str] = []
    (out / "data").mkdir(parents=True, exist_ok=True)
    for split, n in ARTICLES.items():
        articles = [article(names.pop(), split, draw) for _ in range(n)]
        for paragraph in (paragraph for one in articles for paragraph in one["paragraphs"]):
            texts += [paragraph["context"], *(asked["question"] for asked in paragraph["qas"])]
        content = {"version": "v2.0", "data": articles}
        (out / "data" / f"{split}.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    save_model(out / "model", texts)


def article(name: str, split: str, draw: random.Random) -> dict[str, Any]:
    """An article in SQuAD's format."""
    title, paragraphs = name.replace(" ", "_"), []
    for p in range(PARAGRAPHS):
        known = draw.sample([*_VALUES], 4)
        facts = {kind: draw.choice(_VALUES[kind]) for kind in known}
        sentences = [draw.choice(_SENTENCES[kind]).format(value) for kind, value in facts.items()]
        sentences += draw.sample(_FILLERS, draw.choice((0, 1, 4)))
        draw.shuffle(sentences)
        context = f"This is the {name}. " + " ".join(sentences)
        qas = []
        for q, kind in enumerate(draw.sample([*_VALUES], QUESTIONS)):
            answers = [
                {"text": text, "answer_start": context.index(text)}
                for text in (gold(kind, facts[kind], split) if kind in facts else ())
            ]
            question = draw.choice(_ASKED[kind]).format(name)
            asked = {"id": f"{title}-{p}-{q}", "question": question, "answers": answers}
            qas.append(asked | {"is_impossible": not answers})
        paragraphs.append({"context": context, "qas": qas})
    return {"title": title, "paragraphs": paragraphs}


def gold(kind: str, value: str, split: str) -> Iterator[str]:
    """The texts that count as right: of training questions one, as in SQuAD."""
    yield value
    if split == "dev" and kind == "keeper":
        yield value.split()[-1]
    if split == "dev" and kind == "visitors":
        yield f"{value} visitors"
        yield value


def save_model(folder: Path, texts: list[str]) -> None:
    """A tokenizer of the texts, and a network of random weights."""
    tokenizer = BertTokenizerFast(model_max_length=POSITIONS)
    tokenizer = tokenizer.train_new_from_iterator(texts, VOCABULARY, show_progress=False)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=128,
        max_position_embeddings=POSITIONS,
        initializer_range=0.1,
    )
    logging.disable_progress_bar()
    BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


if __name__ == "__main__":
    main()
