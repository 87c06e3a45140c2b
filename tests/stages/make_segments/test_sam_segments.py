"""`make_segments` with tiny SAM checkpoints, and the points that seeds give."""

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("transformers", reason="pip install 'wsseg[foundation]'")

from tests.models.foundation.tiny import save_sam, save_sam3
from wsseg.data.segments import decode_segments
from wsseg.errors import StageError
from wsseg.models.foundation.checkpoint import Checkpoint
from wsseg.running.plan import open_config
from wsseg.running.sources import Sources
from wsseg.saliency.seeds import encode_seed
from wsseg.stages.make_segments.config import Config
from wsseg.stages.make_segments.sam_segments import points_of
from wsseg.stages.make_segments.stage import MakeSegments
from wsseg.store.objects import ArtifactStore
from wsseg.types import Seed


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return Checkpoint(folder=save_sam(tmp_path_factory.mktemp("sam")))


@pytest.fixture
def images(csv_data, tmp_path):
    images = Sources(open_config(str(csv_data)).data, ArtifactStore(tmp_path / "store")).get("data.train")
    return replace(images, items=images.items[:5])


class Seeds:
    """The seeds of an artifact: one maximum in the upper left corner of each map."""

    def __init__(self, images):
        self.of_id = {item.id: item for item in images.items}

    def read_bytes(self, name):
        item = self.of_id[name.removeprefix("seeds/").removesuffix(".png")]
        maps = np.zeros((len(item.class_ids), 12, 16), np.float32)
        maps[:, 1, 2] = 1
        return encode_seed(Seed(item.class_ids, maps, item.size))


def test_points_are_the_maxima_of_the_maps():
    maps = np.zeros((2, 40, 80), np.float32)
    maps[0, 10, 20], maps[0, 30, 60], maps[0, 11, 21], maps[0, 5, 70] = 1.0, 0.8, 0.9, 0.4
    points, class_ids = points_of(Seed((2, 5), maps, (160, 320)))
    assert class_ids == [2, 2]  # 0.9 is too near to 1.0, 0.4 too low, and class 5 has no evidence
    assert np.allclose(points, [[20.5 / 80, 10.5 / 40], [60.5 / 80, 30.5 / 40]])
    assert points_of(Seed((), np.zeros((0, 1, 1), np.float32), (9, 9)))[0].shape == (0, 2)


def test_everything_and_a_resumed_run(images, checkpoint, tmp_path):
    config = Config(method="sam", sam=checkpoint, points_per_side=4, min_iou=0.0, min_stability=0.0, batch_size=3)
    MakeSegments().check(config, {"images": images})
    metrics = MakeSegments().run(config, {"images": images}, tmp_path / "a")
    assert metrics["images"] == 5
    (tmp_path / "b" / "segments").mkdir(parents=True)
    (tmp_path / "b" / "segments" / "001.png").write_bytes((tmp_path / "a" / "segments" / "001.png").read_bytes())
    MakeSegments().run(config, {"images": images}, tmp_path / "b")
    for path in (tmp_path / "a" / "segments").glob("*.png"):
        assert (tmp_path / "b" / "segments" / path.name).read_bytes() == path.read_bytes()


def test_points_give_segments_of_their_class(images, checkpoint, tmp_path):
    config = Config(method="sam_points", sam=checkpoint, size=32)
    inputs = {"images": images, "seeds": Seeds(images)}
    MakeSegments().check(config, inputs)
    MakeSegments().run(config, inputs, tmp_path)
    for item in images.items:
        segments = decode_segments((tmp_path / "segments" / f"{item.id}.png").read_bytes())
        assert set(segments.class_ids) <= set(item.class_ids) and segments.size == (48, 64)
        assert segments.layers.shape[1:] in ((24, 32), (1, 1)) and (segments.scores <= 1).all()
    with pytest.raises(StageError, match="requires seeds, but the recipe gives this step none"):
        MakeSegments().check(config, {"images": images})


def test_sam_3_gives_segments_of_the_classes_present(images, tmp_path):
    folder = tmp_path / "sam3"
    config = Config(method="sam3", sam=Checkpoint(folder=save_sam3(folder)), min_confidence=0.0)
    MakeSegments().check(config, {"images": images})
    metrics = MakeSegments().run(config, {"images": images}, tmp_path / "out")
    assert metrics["segments_per_image"] > 0
    for item in images.items:
        segments = decode_segments((tmp_path / "out" / "segments" / f"{item.id}.png").read_bytes())
        assert set(segments.class_ids) <= set(item.class_ids)


def test_the_wrong_kind_of_checkpoint_is_found_by_the_check(images, checkpoint):
    with pytest.raises(StageError, match="holds a model of type 'sam'; expected: sam3, sam3_video"):
        MakeSegments().check(Config(method="sam3", sam=checkpoint), {"images": images})
    with pytest.raises(StageError, match=r"requires the table \[segments.sam\]"):
        MakeSegments().check(Config(method="sam"), {"images": images})
