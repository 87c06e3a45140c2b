"""`make_seeds` with method clip, on a tiny CLIP checkpoint."""

import json

import numpy as np
import pytest

pytest.importorskip("transformers", reason="pip install 'wsseg[foundation]'")

from tests.models.foundation.tiny import save_clip
from wsseg.errors import StageError
from wsseg.models.foundation.checkpoint import Checkpoint
from wsseg.models.foundation.prompts import Prompts
from wsseg.running.plan import open_config
from wsseg.running.sources import Sources
from wsseg.saliency.seeds import decode_seed
from wsseg.stages.make_seeds.config import Config
from wsseg.stages.make_seeds.stage import MakeSeeds
from wsseg.store.objects import ArtifactStore


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return Checkpoint(folder=save_clip(tmp_path_factory.mktemp("clip")))


@pytest.fixture
def images(csv_data, tmp_path):
    return Sources(open_config(str(csv_data)).data, ArtifactStore(tmp_path / "store")).get("data.train")


def config_of(checkpoint, **values):
    values = {"size": 96, "scales": (1.0,), "batch_size": 5, "precision": "float32", **values}
    return Config(method="clip", clip=checkpoint, **values)


def test_seeds_of_the_classes_present_and_a_resumed_run_gives_the_same_bytes(images, checkpoint, tmp_path):
    config, inputs = config_of(checkpoint), {"images": images}
    MakeSeeds().check(config, inputs)
    metrics = MakeSeeds().run(config, inputs, tmp_path / "a")
    assert metrics["images"] == 12 and metrics["bytes_per_image"] > 0
    for item in images.items:
        seed = decode_seed((tmp_path / "a" / "seeds" / f"{item.id}.png").read_bytes())
        assert seed.class_ids == item.class_ids and seed.size == (48, 64)
        if item.class_ids:
            assert seed.maps.shape == (1, 12, 16) and seed.maps.max() in (0, 1)
    texts = json.loads((tmp_path / "a" / "prompts.json").read_text())
    assert texts["phrases"][:3] == ["red", "blue", "ground"] and len(texts["phrases"]) == 27
    (tmp_path / "b" / "seeds").mkdir(parents=True)
    for name in ("000.png", "004.png"):
        (tmp_path / "b" / "seeds" / name).write_bytes((tmp_path / "a" / "seeds" / name).read_bytes())
    MakeSeeds().run(config, inputs, tmp_path / "b")
    for path in (tmp_path / "a").rglob("*.*"):
        assert (tmp_path / "b" / path.relative_to(tmp_path / "a")).read_bytes() == path.read_bytes()


def test_phrases_and_background_words_change_the_seeds(images, checkpoint, tmp_path):
    inputs = {"images": images}
    prompts = Prompts({"red": "a red box"}, ("noise", "fog"))
    MakeSeeds().run(config_of(checkpoint), inputs, tmp_path / "a")
    MakeSeeds().run(config_of(checkpoint, prompts=prompts), inputs, tmp_path / "b")
    texts = json.loads((tmp_path / "b" / "prompts.json").read_text())["phrases"]
    assert texts == ["a red box", "blue", "noise", "fog"]
    seeds = [decode_seed((tmp_path / run / "seeds" / "000.png").read_bytes()).maps for run in "ab"]
    assert not np.array_equal(*seeds)


def test_scales_flip_and_bfloat16(images, checkpoint, tmp_path):
    config = config_of(checkpoint, scales=(1.0, 1.6), precision="bfloat16")
    assert MakeSeeds().run(config, {"images": images}, tmp_path / "a")["images"] == 12


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"clip": None}, r"requires the table \[seeds.clip\]"),
        ({"prompts": Prompts({"rad": "x"})}, "found 'rad', which is no class; expected: red, blue; did you mean 'red'"),
        ({"method": "cam"}, 'seeds.method = "cam" requires a classifier, but the recipe gives this step none'),
    ],
)
def test_values_that_cannot_work_are_found_by_the_check(images, checkpoint, values, message):
    with pytest.raises(StageError, match=message):
        MakeSeeds().check(Config(**{"method": "clip", "clip": checkpoint, **values}), {"images": images})
