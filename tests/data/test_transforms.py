import subprocess
import sys

import numpy as np
import pytest
import timm
import torch
from PIL import Image as PILImage

from wsseg.data.batches import batches_by_size, network_size, quarter
from wsseg.data.reading import inspect_file
from wsseg.data.transforms import Draw, Focus, TrainingImages, augmentation, normalised, pixel_of, resized_mask
from wsseg.types import LabeledImage


def images(tmp_path, count=3):
    items = []
    for i in range(count):
        path = tmp_path / f"{i}.png"
        PILImage.fromarray(np.random.default_rng(i).integers(0, 255, (40, 60, 3)).astype(np.uint8)).save(path)
        items.append(LabeledImage(str(i), path, (2,), (40, 60), inspect_file(path).sha256))
    return items


def dataset(items, mask_of=None, seed=0):
    return TrainingImages(items, 3, augmentation((32, 32), 32, (0.7, 1.5), 0.3), (0.5,) * 3, (0.5,) * 3, seed, mask_of)


def test_augmentation_depends_only_on_seed_epoch_and_index(tmp_path):
    items = images(tmp_path)
    one, two = dataset(items), dataset(items)
    forwards = [one[i]["image"] for i in range(3)]
    backwards = [two[i]["image"] for i in (2, 1, 0)][::-1]
    assert all(torch.equal(a, b) for a, b in zip(forwards, backwards, strict=True))
    two.epoch = 1
    assert not torch.equal(one[0]["image"], two[0]["image"])
    assert not torch.equal(one[0]["image"], dataset(items, seed=1)[0]["image"])


def test_shapes_and_labels(tmp_path):
    sample = dataset(images(tmp_path))[0]
    assert sample["image"].shape == (3, 32, 32) and sample["image"].dtype == torch.float32
    assert sample["present"].tolist() == [0, 1, 0]


def test_masks_move_with_their_image_and_are_padded_with_255(tmp_path):
    path = tmp_path / "x.png"
    values = np.zeros((20, 60), dtype=np.uint8)
    values[:, 30:] = 200
    PILImage.fromarray(np.stack([values] * 3, axis=2)).save(path)
    mask = (values > 0).astype(np.uint8)
    data = TrainingImages(
        [LabeledImage("x", path, (1,), (20, 60), inspect_file(path).sha256)], 1, augmentation((32, 32), 32, (0.5, 0.9), 0.0), (0,) * 3, (1,) * 3, 0,
        lambda _: mask,
    )  # fmt: skip
    for epoch in range(5):
        data.epoch = epoch
        sample = data[0]
        grey, target = sample["image"][0], sample["mask"]
        assert (target == 255).any()  # the image is smaller than the crop
        sure = (target != 255) & ((grey < 0.05) | (grey > 0.7))
        assert torch.equal(target[sure] == 1, grey[sure] > 0.5)


def test_a_crop_around_a_pixel_contains_it():
    transform = augmentation((32, 48), 96, (0.8, 1.5), 0.0)
    mask = np.zeros((60, 96), np.uint8)
    for y, x in ((0, 0), (59, 95), (30, 50), (3, 90)):
        mask[:] = 0
        mask[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2] = 1
        for draw in range(20):
            transform.set_random_seed(draw)
            result = transform(image=np.zeros((60, 96, 3), np.uint8), mask=mask, around=(y, x))
            assert result["mask"].shape == (32, 48) and (result["mask"] == 1).any()


def test_parts_are_drawn_by_the_root_of_their_area():
    region = np.zeros((40, 40), bool)
    region[:20, :20] = region[30:35, 30:35] = True
    rng = np.random.default_rng(0)
    pixels = [pixel_of(region, rng) for _ in range(500)]
    assert all(region[pixel] for pixel in pixels)
    assert 70 < sum(y >= 30 for y, _ in pixels) < 130  # 5 of 25, not 25 of 425


def test_the_focus_draws_each_class_equally_often(tmp_path):
    items = images(tmp_path, 10)
    masks = {item.id: np.full((40, 60), 1 if item.id != "7" else 3, np.uint8) for item in items}
    focus = Focus(0.5, {1: [i for i in range(10) if i != 7], 3: [7]})
    data = TrainingImages(
        items, 3, augmentation((32, 32), 32, (0.7, 1.5), 0.0), (0.5,) * 3, (0.5,) * 3, 0, lambda i: masks[i], 400, focus
    )
    order = data.order(0)
    counts = {class_id: sum(draw.class_id == class_id for draw in order) for class_id in (0, 1, 3)}
    assert len(order) == 400 and 160 < counts[0] < 240 and 70 < counts[1] < 130 and 70 < counts[3] < 130
    assert all(draw.image == 7 for draw in order if draw.class_id == 3)
    assert order == data.order(0) != data.order(1)
    assert len(set(order)) == 400  # an image that is drawn again is augmented differently
    repeated = [draw for draw in order if draw.image == 7][:2]
    assert not torch.equal(data.example(repeated[0])["image"], data.example(repeated[1])["image"])


def test_an_epoch_may_be_longer_than_the_data(tmp_path):
    data = dataset(images(tmp_path))
    data.draws = 7
    order = data.order(0)
    assert [sorted(draw.image for draw in order[i : i + 3]) for i in (0, 3)] == [[0, 1, 2]] * 2
    assert [draw.nth for draw in order] == [0, 0, 0, 1, 1, 1, 2] and order[0] == Draw(0, order[0].image)


def test_normalised_subtracts_the_mean_and_divides_by_std():
    image = np.full((2, 2, 3), 255, dtype=np.uint8)
    assert torch.allclose(normalised(image, (0.5, 0.5, 0.0), (0.5, 0.25, 1.0))[:, 0, 0], torch.tensor([1.0, 2.0, 1.0]))


def test_batches_have_one_size_and_do_not_depend_on_the_order_of_images(tmp_path):
    items = [LabeledImage(str(i), tmp_path, (), (10, 20 + i % 2), "") for i in range(7)]
    batches = batches_by_size(items, 2)
    assert [[i.id for i in b] for b in batches] == [["0", "2"], ["4", "6"], ["1", "3"], ["5"]]


def test_sizes():
    assert network_size((375, 500), 320, 1.0) == (256, 320)  # 240 is between 224 and 256: rounded to even
    assert network_size((500, 375), 320, 0.5) == (160, 128)
    assert network_size((10, 1000), 320, 1.0) == (64, 320)  # never one cell wide at stride 32
    assert quarter((375, 500)) == (94, 125)


def centre(weights):
    """Return the (y, x) centre of mass of an (H, W) array."""
    y, x = np.indices(weights.shape)
    return np.array([(weights * y).sum(), (weights * x).sum()]) / weights.sum()


@pytest.mark.parametrize(
    ("size", "crop", "scale"),
    [((375, 500), 320, (0.5, 1.5)), ((200, 200), 256, (0.7, 1.5)), ((400, 640), 320, (1.0, 1.0)), ((96, 64), 96, (0.4, 0.9))],
)  # fmt: skip
def test_edges_of_masks_stay_aligned_with_their_images(size, crop, scale):
    transform = augmentation((crop, crop), crop, scale, 0.0)
    offsets = []
    for draw in range(200):
        top, left = np.random.default_rng(draw).integers(np.array(size) // 3, np.array(size) // 2)
        mask = np.zeros(size, dtype=np.uint8)
        mask[top : top + size[0] // 5, left : left + size[1] // 5] = 1
        transform.set_random_seed(draw)
        result = transform(image=np.repeat(mask[..., None] * 200, 3, axis=2), mask=mask)
        light = result["image"][..., 0] / 200.0
        if light[[0, -1]].max() == light[:, [0, -1]].max() == 0 < light.max():  # the crop contains the complete square
            offsets.append(centre(result["mask"] == 1) - centre(light))
    assert len(offsets) > 100
    assert np.abs(np.mean(offsets, axis=0)).max() < 0.1
    flipped_or_not = np.array(offsets)[:, 1]  # a shift to one side would cancel out over flips, but not in its size
    assert np.abs(flipped_or_not).mean() < 0.2


def test_a_resized_mask_gets_the_value_that_covers_most_of_each_pixel():
    mask = np.zeros((4, 6), dtype=np.uint8)
    mask[:, 3:] = 255
    mask[2:, :2] = 7
    assert resized_mask(mask, (2, 3)).tolist() == [[0, 0, 255], [7, 0, 255]]
    assert set(np.unique(resized_mask(mask, (40, 60)))) == {0, 7, 255}
    assert resized_mask(np.full((3, 3), 9, np.uint8), (5, 2)).tolist() == [[9, 9]] * 5


@pytest.mark.parametrize("size", [(1, 300), (300, 1), (1, 1), (2, 4000)])
def test_the_narrowest_photographs_keep_one_pixel(size):
    transform = augmentation((32, 32), 32, (0.5, 0.5), 0.2)
    transform.set_random_seed(0)
    result = transform(image=np.full((*size, 3), 90, np.uint8), mask=np.ones(size, np.uint8))
    assert result["image"].shape == (32, 32, 3) and (result["mask"] == 1).any()


def test_a_network_is_deterministic_on_the_narrowest_photographs():
    network = timm.create_model("test_resnet", num_classes=2).eval().to(memory_format=torch.channels_last)
    height, width = network_size((2000, 3), 64, 1.0)
    images = torch.rand(4, 3, height, width).to(memory_format=torch.channels_last)
    results = []
    for _ in range(4):
        for size in (2**n for n in range(4, 20)):  # the next pass may get the memory that is freed here
            torch.full((size,), torch.nan)
        with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
            results.append(network(images))
    assert all(torch.equal(result, results[0]) for result in results) and torch.isfinite(results[0]).all()


@pytest.mark.slow
def test_importing_albumentations_does_not_use_the_network(monkeypatch):
    """By default, albumentations looks for a newer version when it is imported."""
    monkeypatch.delenv("NO_ALBUMENTATIONS_UPDATE", raising=False)
    code = "import socket, sys; socket.getaddrinfo = lambda *_, **__: sys.exit('asked'); import wsseg.data.transforms"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
