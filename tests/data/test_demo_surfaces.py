"""The harder demo set: small defects of three kinds, exact masks, half of the images without any."""

import cv2
import numpy as np

from wsseg.data.config import DemoData, DemoSplit
from wsseg.data.demo import demo_data
from wsseg.data.demo_surfaces import CLASSES, draw_surface
from wsseg.data.file_memory import FileMemory
from wsseg.data.images import load_images
from wsseg.data.truth.loading import load_truth

DATA = DemoData(kind="demo", scene="surfaces", size=256, train=DemoSplit(8), val=DemoSplit(2))


def test_labels_agree_with_the_masks_and_the_same_seed_gives_the_same_files(tmp_path):
    memory = FileMemory()
    data = demo_data(DATA, tmp_path / "a")
    images = load_images(data, "train", memory)
    assert images.classes.names == CLASSES and {item.size for item in images.items} == {(256, 512)}
    assert images.key == load_images(demo_data(DATA, tmp_path / "b"), "train", memory).key
    truth = load_truth(data, images, memory)
    for item in images.items:
        assert tuple(int(i) for i in np.unique(truth.mask(item.id)) if i) == item.class_ids
    assert sum(not item.class_ids for item in images.items) == 4


def test_defects_are_small_and_differ_from_their_surroundings():
    sizes: dict[int, list[float]] = {1: [], 2: [], 3: []}
    for index in range(30):
        image, mask = draw_surface(np.random.default_rng([1, index]), (256, 512), empty=False)
        for class_id in sizes:
            count, places = cv2.connectedComponents((mask == class_id).astype(np.uint8))
            for place in range(1, count):
                y, x = np.nonzero(places == place)
                sizes[class_id].append(max(np.ptp(y), np.ptp(x)) + 1)
        defect = mask > 0
        ring = cv2.dilate(defect.astype(np.uint8), np.ones((9, 9))).astype(bool) & ~defect
        assert abs(image[defect].mean() - image[ring].mean()) > 1
    assert all(len(of_class) > 7 for of_class in sizes.values())
    medians = {class_id: np.median(of_class) for class_id, of_class in sizes.items()}
    assert medians[2] < 12 < medians[1] < 40 and 12 < medians[3] < 45


def test_an_empty_surface_has_no_defect():
    assert not draw_surface(np.random.default_rng(0), (64, 128), empty=True)[1].any()
