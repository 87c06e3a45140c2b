"""The recipes clip and clip_sam, and the steps with embeddings, on tiny checkpoints."""

import pytest

pytest.importorskip("transformers", reason="pip install 'wsseg[foundation]'")

from tests.models.foundation.tiny import save_clip, save_dino, save_sam
from wsseg.errors import ConfigError
from wsseg.running.execute import run_plan
from wsseg.running.plan import make_plan
from wsseg.store.objects import ArtifactStore

# one process each: starting workers takes longer than the work on twelve images
ALONE = tuple(f"{table}.workers=1" for table in ("pseudo_masks", "segments", "snapping", "walk", "relabeling"))
FAST = ("classifier.epochs=1", "segmenter.epochs=1", *ALONE)
CLIP = ("seeds.method=clip", "seeds.scales=[1.0]", *FAST)


def metrics_of(recipe, config, tmp_path, *overrides):
    plan = make_plan(str(recipe), str(config), ArtifactStore(tmp_path / "store"), overrides)
    run_plan(plan)
    plan.raise_failures()
    return {p.step.name: p.artifact.manifest["metrics"] for p in plan.active}


@pytest.mark.slow
def test_clip_and_clip_sam_run_all_steps_and_share_what_they_can(csv_data, tmp_path):
    values = (*CLIP, f"seeds.clip.folder={save_clip(tmp_path / 'clip')}")
    found = metrics_of("clip", csv_data, tmp_path, *values)
    assert found["seeds"]["images"] == 12 and found["segments"]["segments_per_image"] >= 1
    assert 0 <= found["snapped_masks"]["snapped"] <= 1 and 0 <= found["evaluation"]["miou"] <= 1
    sam = (f"sam_segments.sam.folder={save_sam(tmp_path / 'sam')}", "sam_segments.points_per_side=3")
    plan = make_plan("clip_sam", str(csv_data), ArtifactStore(tmp_path / "store"), (*values, *sam))
    states = {p.step.name: p.state for p in plan.active}
    assert states["seeds"] == states["pseudo_masks"] == "cached" and states["segments"] == "to run"
    run_plan(plan)
    plan.raise_failures()


def test_the_recipe_clip_asks_for_its_method_and_checkpoint(csv_data, tmp_path):
    with pytest.raises(ConfigError, match='seeds.method = "cam" requires a classifier') as caught:
        make_plan("clip", str(csv_data), ArtifactStore(tmp_path / "store"))
    assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match=r"requires the table \[seeds.clip\]"):
        make_plan("clip", str(csv_data), ArtifactStore(tmp_path / "store"), CLIP)


RECIPE = """
[steps.classifier]
stage = "train_classifier"
inputs = { images = "data.train" }

[steps.seeds]
stage = "make_seeds"
inputs = { images = "data.train", classifier = "classifier" }

[steps.embeddings]
stage = "embed_images"
inputs = { images = "data.train" }

[steps.walked_seeds]
stage = "walk_seeds"
inputs = { images = "data.train", seeds = "seeds", embeddings = "embeddings" }

[steps.pseudo_masks]
stage = "refine_masks"
inputs = { images = "data.train", seeds = "walked_seeds", classifier = "classifier" }

[steps.segmenter]
stage = "train_segmenter"
inputs = { images = "data.train", masks = "pseudo_masks", classifier = "classifier" }

[steps.relabelled_masks]
stage = "relabel_masks"
inputs = { images = "data.train", segmenter = "segmenter", previous = "pseudo_masks", embeddings = "embeddings" }
"""


@pytest.mark.slow
def test_the_walk_and_the_relabelling_use_embeddings(csv_data, tmp_path):
    (tmp_path / "dino.toml").write_text(RECIPE)
    values = (f"embeddings.model.folder={save_dino(tmp_path / 'dino', 'dinov3_vit')}", "embeddings.size=96")
    found = metrics_of(tmp_path / "dino.toml", csv_data, tmp_path, *values, *FAST)
    assert found["walked_seeds"]["images"] == 12 and found["embeddings"]["bytes_per_image"] > 0
    assert 0 <= found["relabelled_masks"]["changed"] <= 1
    without = RECIPE.replace(', embeddings = "embeddings" }', " }")
    (tmp_path / "none.toml").write_text(without)
    with pytest.raises(ConfigError, match="neither affinity nor embeddings"):
        make_plan(str(tmp_path / "none.toml"), str(csv_data), ArtifactStore(tmp_path / "other"), values)
