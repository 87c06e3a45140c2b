import time
from types import SimpleNamespace

import numpy as np

from wsseg.labels import ClassMap
from wsseg.saliency.seeds import encode_seed
from wsseg.stages.evaluate_masks.config import Config
from wsseg.stages.evaluate_masks.judgement import SeedJudge
from wsseg.stages.evaluate_masks.stage import EvaluateMasks
from wsseg.types import Seed


class Truth:
    split, key, classes = "train", "key", ClassMap(("cat", "dog"))
    ids = tuple(f"{i:03d}" for i in range(60))
    read = 0

    def mask(self, item_id):
        self.read += 1
        return np.array([[0, int(item_id) % 3]], np.uint8)


def test_the_counts_of_few_images_are_held(tmp_path, monkeypatch):
    """Counting is quicker than adding here: without a bound, the counts of all images would wait."""
    truth, added, waiting = Truth(), [], []
    add = SeedJudge.add

    def slow_add(self, counted):
        time.sleep(0.002)
        waiting.append(truth.read - len(added))
        added.append(counted)
        add(self, counted)

    monkeypatch.setattr(SeedJudge, "add", slow_add)
    seed = encode_seed(Seed((1,), np.array([[[0.1, 0.9]]], np.float32), (1, 2)))
    seeds = SimpleNamespace(
        kind="seeds", key="key", manifest={"provenance": {}}, ids=lambda *_: list(truth.ids), read_bytes=lambda _: seed
    )
    metrics = EvaluateMasks().run(Config(workers=2), {"masks": seeds, "truth": truth}, tmp_path)
    assert len(added) == metrics["images"] == 60 and max(waiting) <= 2 * 2 + 1
