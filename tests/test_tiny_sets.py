"""Every step of the recipe `best` works on very small or unbalanced datasets and on tiny or narrow images."""

import numpy as np
import pytest
from PIL import Image as PILImage

from tests.conftest import TINY_CONFIG
from wsseg.data.masks import decode_mask, encode_mask
from wsseg.running.execute import run_plan
from wsseg.running.plan import make_plan
from wsseg.stages.layout import MASK_FOLDER
from wsseg.store.objects import ArtifactStore

pytestmark = pytest.mark.slow


def write(folder, train, val):
    """Write a CSV dataset of images, each given as (class id or 0, (H, W)); return the path of its config."""
    rng = np.random.default_rng(0)
    for split, photographs in (("train", train), ("val", val)):
        root = folder / "data" / split
        (root / "images").mkdir(parents=True)
        (root / "masks").mkdir()
        rows = ["image_id,classes"]
        for number, (kind, size) in enumerate(photographs):
            image = rng.integers(90, 130, (*size, 3)).astype(np.uint8)
            mask = np.zeros(size, np.uint8)
            mask[: -(-size[0] // 2), : -(-size[1] // 2)] = kind
            image[mask > 0] = (220, 30, 30) if kind == 1 else (30, 30, 220)
            PILImage.fromarray(image).save(root / "images" / f"{number}.png")
            (root / "masks" / f"{number}.png").write_bytes(encode_mask(mask))
            rows.append(f"{number},{['', 'red', 'blue'][kind]}")
        (root / "labels.csv").write_text("\n".join(rows) + "\n")
    config = folder / "tiny.toml"
    config.write_text(TINY_CONFIG)
    return config


@pytest.mark.parametrize(
    ("train", "val"),
    [
        pytest.param([(1, (48, 64))], [(1, (48, 64))], id="one image"),
        pytest.param([(1, (48, 64))] * 2, [(0, (48, 64))], id="one class"),
        pytest.param(
            [(1, (1, 300)), (2, (300, 1)), (0, (2, 2)), (1, (64, 64))], [(1, (1, 300)), (2, (301, 3))], id="strips"
        ),
    ],
)
@pytest.mark.parametrize("batch_size", [1, 4])
def test_the_best_recipe_runs(tmp_path, train, val, batch_size):
    config = write(tmp_path, train, val)
    store = ArtifactStore(tmp_path / "store")
    sizes = [
        f"{table}.batch_size={batch_size}" for table in ("classifier", "affinity", "segmenter", "seeds", "predictions")
    ]
    small = ["classifier.size=32", "segmenter.size=32", "affinity.size=32", "classifier.epochs=1", "segmenter.epochs=1"]
    shown = sorted({kind for kind, _ in train if kind})
    classes = f"data.classes={[['red', 'blue'][kind - 1] for kind in shown]}"
    plan = make_plan("best", str(config), store, (classes, *sizes, *small))
    run_plan(plan)
    steps = {planned.step.name: planned for planned in plan.active}
    assert {planned.state for planned in plan.active} == {"ran"}
    for number, (_, size) in enumerate(val):
        mask = decode_mask(steps["predictions"].artifact.read_bytes(f"{MASK_FOLDER}/{number}.png"))
        assert mask.shape == size and mask.max() <= 2
