"""The demo data set: deterministic, with exact masks, and hard enough."""

import numpy as np
import pytest

from wsseg.data.config import DemoData, DemoSplit
from wsseg.data.demo import CLASSES, demo_data
from wsseg.data.file_memory import FileMemory
from wsseg.data.images import load_images
from wsseg.data.truth.loading import load_truth

DATA = DemoData(kind="demo", train=DemoSplit(48), val=DemoSplit(8))


@pytest.fixture(scope="module")
def generated(tmp_path_factory):
    """Return the folder of the generated data set."""
    folder = tmp_path_factory.mktemp("demo")
    demo_data(DATA, folder)
    return folder


def test_the_demo_set_is_deterministic_and_its_masks_agree_with_its_labels(generated, tmp_path):
    memory = FileMemory()
    first = load_images(demo_data(DATA, generated), "train", memory)
    second = load_images(demo_data(DATA, tmp_path), "train", memory)
    assert first.key == second.key and first.classes.names == tuple(CLASSES)
    assert {item.size for item in first.items} == {(128, 128)}
    truth = load_truth(demo_data(DATA, generated), first, memory)
    for item in first.items:
        assert tuple(int(i) for i in np.unique(truth.mask(item.id)) if i) == item.class_ids


def test_the_demo_set_is_hard_enough(generated):
    images = load_images(demo_data(DATA, generated), "train", FileMemory())
    counts = [len(item.class_ids) for item in images.items]
    assert {0, 1, 2, 3} <= set(counts)
    assert all(sum(c in item.class_ids for item in images.items) >= 8 for c in (1, 2, 3, 4))


def test_another_seed_or_split_gives_other_images(generated, tmp_path):
    memory = FileMemory()
    data = demo_data(DATA, generated)
    other = demo_data(DemoData(kind="demo", train=DemoSplit(1), seed=1), tmp_path)
    digests = {load_images(d, s, memory).items[0].sha256 for d, s in ((data, "train"), (data, "val"), (other, "train"))}
    assert len(digests) == 3
