import json
import time
from types import SimpleNamespace

import numpy as np
import pytest

from wsseg.data.masks import encode_mask
from wsseg.labels import ClassMap
from wsseg.metrics.errors import ClassPixels
from wsseg.saliency.seeds import encode_seed
from wsseg.stages.evaluate_masks.config import Config
from wsseg.stages.evaluate_masks.image_counts import FILE, read_image_counts
from wsseg.stages.evaluate_masks.seeds import SeedJudge
from wsseg.stages.evaluate_masks.stage import EvaluateMasks
from wsseg.types import Seed


class Truth:
    split, key, classes = "train", "key", ClassMap(("cat", "dog"))
    ids = tuple(f"{i:03d}" for i in range(60))
    sequences, read = False, 0

    def mask(self, item_id):
        self.read += 1
        return np.array([[0, int(item_id) % 3]], np.uint8)


def artifact(kind, content):
    """Return an artifact with the same file for every image."""
    return SimpleNamespace(
        kind=kind, key="key", manifest={"provenance": {}}, ids=lambda *_: list(Truth.ids), read_bytes=lambda _: content
    )


def test_few_images_are_in_memory_at_once(tmp_path, monkeypatch):
    """Counting is faster than adding here: without a bound, the counts of all images would wait in memory."""
    truth, added, waiting = Truth(), [], []
    add = SeedJudge.add

    def slow_add(self, counts):
        time.sleep(0.002)
        waiting.append(truth.read - len(added))
        added.append(counts)
        add(self, counts)

    monkeypatch.setattr(SeedJudge, "add", slow_add)
    seeds = artifact("seeds", encode_seed(Seed((1,), np.array([[[0.1, 0.9]]], np.float32), (1, 2))))
    metrics = EvaluateMasks().run(Config(workers=2), {"masks": seeds, "truth": truth}, tmp_path)
    assert len(added) == metrics["images"] == 60 and max(waiting) <= 2 * 2 + 1
    assert not (tmp_path / FILE).exists()


def test_the_counts_of_each_image_are_written(tmp_path):
    """The mask is background and cat; the truth is background, cat or dog in the second pixel, in turn."""
    masks = artifact("pseudo_masks", encode_mask(np.array([[0, 1]], np.uint8)))
    EvaluateMasks().run(Config(workers=2), {"masks": masks, "truth": Truth()}, tmp_path)
    images = list(read_image_counts((tmp_path / FILE).read_bytes()))
    assert [image.id for image in images] == list(Truth.ids)
    spill, hit, wrong = images[:3]
    assert spill.classes == {0: ClassPixels(hits=1, spill=0, missed=1), 1: ClassPixels(spill=1)}
    assert hit.classes == {0: ClassPixels(hits=1), 1: ClassPixels(hits=1)}
    assert wrong.classes == {0: ClassPixels(hits=1), 1: ClassPixels(wrong=1), 2: ClassPixels(wrong=1)}
    assert [image.miou for image in images[:3]] == pytest.approx([1 / 4, 1, 1 / 3])
    assert [image.shares for image in images[:3]] == [(0, 1 / 2, 0, 0), (0, 0, 0, 0), (0, 0, 1 / 2, 0)]
    objects = json.loads((tmp_path / "report.json").read_text())["objects"]
    assert objects["cat"]["small"] == {"objects": 20, "pixels": 20, "missed": 0, "wrong": 0}
    assert objects["dog"]["small"] == {"objects": 20, "pixels": 20, "missed": 0, "wrong": 20}


def test_undecided_pixels_are_neither_missed_nor_wrong(tmp_path):
    masks = artifact("pseudo_masks", encode_mask(np.array([[255, 255]], np.uint8)))
    EvaluateMasks().run(Config(workers=2), {"masks": masks, "truth": Truth()}, tmp_path)
    background, cat, _ = list(read_image_counts((tmp_path / FILE).read_bytes()))[:3]
    assert background.classes == {0: ClassPixels(undecided=2)} and background.shares == (0, 0, 0, 1)
    assert cat.classes == {0: ClassPixels(undecided=1), 1: ClassPixels(undecided=1)} and cat.miou == 0
