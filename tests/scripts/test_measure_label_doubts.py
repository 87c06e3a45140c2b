"""The planted label errors of the measurement of `wsseg data doubt`."""

import importlib.util
from pathlib import Path

import pytest

from wsseg.data.images import LabeledImages
from wsseg.labels import ClassMap
from wsseg.types import LabeledImage


@pytest.fixture(scope="module")
def script():
    path = Path(__file__).resolve().parents[2] / "scripts" / "measure_label_doubts.py"
    spec = importlib.util.spec_from_file_location("measure_label_doubts", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("kind", "added", "removed"), [("flipped", 1, 1), ("removed", 0, 1), ("added", 1, 0)])
def test_errors_are_planted_in_a_twentieth_of_the_images(script, kind, added, removed):
    present = [(), (1,), (1, 2), (1, 2, 3)]
    items = [LabeledImage(f"{n:03d}", None, present[n % 4], (8, 8), str(n)) for n in range(100)]
    images = LabeledImages("train", ClassMap(("a", "b", "c")), tuple(items), {}, "key")
    spoiled, wrong = script.with_errors(images, kind, 0)
    changed = {a.id for a, b in zip(images.items, spoiled.items, strict=True) if a.class_ids != b.class_ids}
    assert changed == wrong and len(wrong) == 5 and script.with_errors(images, kind, 1)[1] != wrong
    for before, after in zip(images.items, spoiled.items, strict=True):
        if before.id in wrong:
            old, new = set(before.class_ids), set(after.class_ids)
            assert (len(new - old), len(old - new)) == (added, removed)
