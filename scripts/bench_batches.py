#!/usr/bin/env python
"""CPU time to get the test images once more, for another chip or age: decoded, from memory, from temporary files.

    python scripts/bench_batches.py [--images 512] [--out results/speed/bench_batches.csv]

The images are JPEGs of 500 × 375 pixels in a folder by class, preprocessed for a network of 224 × 224 pixels, without
worker processes. A pass adds up all pixels, so that what lies in files is read. Median of three rounds, the ways in
turn; CPU time of one thread.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from statistics import median

import numpy as np
import timm
import torch
from PIL import Image

from hwaware.data import ImageData, ImageInputs, datasets
from hwaware.evaluation import batches as kept
from hwaware.evaluation.batches import Batches
from hwaware.results.csv import write_csv
from hwaware.results.provenance import commit, processor

ROUNDS = 3
CLASSES = ("noisy", "smooth")


def write_images(folder: Path, number: int) -> None:
    draw = np.random.default_rng(0)
    for split, n in (("train", 20 * len(CLASSES)), ("test", number)):
        for index in range(n):
            place = folder / split / CLASSES[index % 2]
            place.mkdir(parents=True, exist_ok=True)
            coarse = Image.fromarray(draw.integers(0, 256, (24, 32, 3), dtype=np.uint8))
            coarse.resize((500, 375), Image.Resampling.BICUBIC).save(place / f"{index}.jpg", quality=90)


def pass_cpu_s(batches: Batches) -> float:
    start = time.process_time()
    for x, _ in batches:
        x.sum().item()
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--out", type=Path, help="CSV file to write, with commit and versions")
    arguments = parser.parse_args()

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        write_images(Path(folder), arguments.images)
        data = ImageData(path=folder)
        data.inputs = ImageInputs(timm.data.resolve_data_config({"input_size": (3, 224, 224)}))
        datasets.CACHE_BYTES = 0  # as if the set were too large to be preprocessed at once
        data.setup("test")
        ways = {}
        for way, limit in (("memory", 2**40), ("files", 0)):
            kept.CACHE_BYTES = limit
            ways[way] = Batches(data, "test", torch.device("cpu"))
            pass_cpu_s(ways[way])
        times: dict[str, list[float]] = {"decoded": [], "memory": [], "files": []}
        for _ in range(ROUNDS):
            for way in times:
                times[way].append(pass_cpu_s(ways.get(way) or Batches(data, "test", torch.device("cpu"))))
    about = {"images": arguments.images, "commit": commit(), "version": version("hwaware"), "torch": torch.__version__}
    about |= {"cpu": processor()}
    ms = {way: round(1e3 * median(spent) / arguments.images, 3) for way, spent in times.items()}
    rows = [{"from": way, "cpu_ms_per_image": value} | about for way, value in ms.items()]
    if arguments.out:
        write_csv(arguments.out, rows[0], (row.values() for row in rows))
    for row in rows:
        print(f"{row['from']:8} {row['cpu_ms_per_image']:7.3f} ms an image")


if __name__ == "__main__":
    main()
