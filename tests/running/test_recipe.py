"""Every message of a recipe, and the order that comes out of a valid one."""

import pytest

from wsseg.config import shipped_folder
from wsseg.errors import RecipeError
from wsseg.running.recipe import load_recipe

CLASSIFIER = '[steps.classifier]\nstage = "train_classifier"\ninputs = { images = "data.train" }\n'
QUALITY = '[steps.quality]\nstage = "measure_classifier"\ninputs = { images = "data.val", classifier = "classifier" }\n'
SEEDS = '[steps.seeds]\nstage = "make_seeds"\ninputs = { images = "data.train", classifier = "classifier" }\n'
SEGMENTER = '[steps.segmenter]\nstage = "train_segmenter"\ninputs = { images = "data.train", masks = "%s" }\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no [steps.NAME] table"),
        ("step = 1", "unknown key 'step'; expected: description, steps; did you mean 'steps'?"),
        ("[steps]\na = 1", "steps.a: found 1; expected: a table"),
        ('[steps.a]\nstage = "train_clasifier"', "did you mean 'train_classifier'?"),
        ("[steps.a]\nstage = { a = 1 }", "steps.a.stage: found {'a': 1}; expected: train_classifier"),
        ('[steps.a]\nstag = "x"', "unknown key 'stag'; expected: stage, inputs, optional, supervision, table; did you mean 'stage'?"),
        ('[steps.a]\nstage = "make_seeds"', "the role 'images' is missing; make_seeds needs images"),
        ('[steps.a]\nstage = "train_classifier"\ninputs = { image = "data.train" }', "no role 'image'; expected: images, marks; did you mean 'images'?"),
        (CLASSIFIER.replace(" }", ', val_images = "data.val" }'), "no role 'val_images'; expected: images, marks; add a step with the stage measure_classifier"),
        ('[steps.a]\nstage = "train_classifier"\ninputs = { images = "data.trian" }', "did you mean 'data.train'?"),
        ('[steps.a]\nstage = "train_classifier"\ninputs = { images = "truth.train" }', "'truth.train' is of kind truth; expected: images"),
        ('[steps.a]\nstage = "train_classifier"\ninputs = { images = "data.train" }\noptional = 1', "optional: found 1"),
        (CLASSIFIER + SEEDS.replace('"classifier" }', '"seeds" }'), "'seeds' is of kind seeds; expected: classifier"),
        (CLASSIFIER + 'table = "seeds"', "steps.classifier.table: found 'seeds'; expected: classifier"),
        (SEGMENTER % "truth.train", 'it learns from true masks; add supervision = "truth"'),
        (SEGMENTER % "truth.val" + 'supervision = "truth"', "'truth.val' is held out; expected: truth.train"),
        (SEGMENTER % "truth.train" + 'supervision = "true"', "found 'true'; expected: \"truth\""),
        (CLASSIFIER + 'supervision = "truth"', "it does not learn from true masks; remove supervision"),
        (CLASSIFIER + "optional = true\n" + QUALITY, "'classifier' is optional, so this step must be optional too"),
        ('[steps.a]\nstage = "refine_masks"\ninputs = { images = "data.train", seeds = "b" }\n'
         '[steps.b]\nstage = "make_seeds"\ninputs = { images = "data.train", classifier = "a" }', "is of kind"),
    ],
)  # fmt: skip
def test_message(tmp_path, text, message):
    path = tmp_path / "r.toml"
    path.write_text(text)
    with pytest.raises(RecipeError) as excinfo:
        load_recipe(path)
    assert message in str(excinfo.value)
    assert "r.toml" in str(excinfo.value) and "\n" not in str(excinfo.value)


def test_cycle_is_named(tmp_path, monkeypatch):
    from dataclasses import dataclass

    from wsseg.running import recipe
    from wsseg.stages.protocol import Role

    @dataclass
    class Loop:  # no shipped stage takes its own kind, so a cycle needs one that does
        name = table = "loop"
        Config = dict
        inputs = {"thing": Role(("thing",))}
        output = "thing"

    monkeypatch.setitem(recipe.STAGES, "loop", Loop())
    path = tmp_path / "r.toml"
    path.write_text(
        '[steps.a]\nstage = "loop"\ninputs = { thing = "b" }\n[steps.b]\nstage = "loop"\ninputs = { thing = "a" }'
    )
    with pytest.raises(RecipeError, match="form a cycle; break it"):
        load_recipe(path)


def test_steps_come_in_an_order_that_can_run(tmp_path):
    path = tmp_path / "r.toml"
    path.write_text(SEEDS + CLASSIFIER)
    assert [step.name for step in load_recipe(path).steps] == ["classifier", "seeds"]


@pytest.mark.parametrize("path", sorted(shipped_folder("pipelines").glob("*.toml")), ids=lambda p: p.stem)
def test_every_shipped_recipe_loads_in_file_order(path):
    recipe = load_recipe(path)
    assert recipe.description
    order = [line[7:-1] for line in path.read_text().splitlines() if line.startswith("[steps.")]
    assert [step.name for step in recipe.steps] == order


def test_a_step_may_have_a_table_of_its_own():
    steps = {step.name: step for step in load_recipe(shipped_folder("pipelines") / "irn.toml").steps}
    assert steps["affinity_labels"].table == "affinity_labels" and steps["pseudo_masks"].table == "walked_masks"
    assert steps["affinity_labels"].stage is steps["pseudo_masks"].stage
