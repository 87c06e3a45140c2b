"""Caching, invalidation, repair and resume, by counting what is executed; the stages are toys, the store is real."""

import hashlib
import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from typing import ClassVar

import pytest
from click.testing import CliRunner

from wsseg.cli.main import cli
from wsseg.config import setting, shipped_folder
from wsseg.errors import ArtifactError, ConfigError, FormatError, StageError
from wsseg.models import device
from wsseg.progress import listening
from wsseg.running import plan as planning
from wsseg.running import recipe as recipe_module
from wsseg.running.execute import run_plan
from wsseg.running.plan import make_plan, summary
from wsseg.stages.protocol import Role
from wsseg.store.files import atomic_write, canonical_json
from wsseg.store.objects import ArtifactStore

RECIPE = """
description = "two toys"
[steps.first]
stage = "write"
inputs = { images = "data.train" }
[steps.second]
stage = "copy"
inputs = { thing = "first" }
[steps.judged]
stage = "write"
inputs = { images = "data.val" }
optional = true
"""


@dataclass(frozen=True)
class WriteConfig:
    size: int = setting(1)
    workers: int = setting(0, execution=True)


@dataclass(frozen=True)
class CopyConfig:
    times: float = setting(1.0)


class Write:
    name, table, version, Config, output = "write", "write", 1, WriteConfig, "thing"
    distributed = False
    measures = False
    inputs: ClassVar = {"images": Role(("images",))}
    runs: ClassVar = []
    fail_after = None

    def check(self, config, inputs):
        pass

    def run(self, config, inputs, out):
        self.runs.append(self.name)
        made = 0
        for item in inputs["images"].items:
            path = out / "items" / f"{item.id}.txt"
            if not path.is_file():
                if made == self.fail_after:
                    raise StageError("stopped on purpose")
                atomic_write(path, f"{item.id} {config.size}".encode())
                made += 1
        return {"made": made}


class Copy(Write):
    name, table, Config = "copy", "copy", CopyConfig
    inputs: ClassVar = {"thing": Role(("thing",))}

    def check(self, config, inputs):
        pass

    def run(self, config, inputs, out):
        self.runs.append(self.name)
        text = b"".join(inputs["thing"].read_bytes(f"items/{i}.txt") for i in inputs["thing"].ids("items", ".txt"))
        atomic_write(out / "all.txt", text * int(config.times))
        return {"bytes": len(text)}


class Measure(Write):
    """Measures what `write` made; it comes before `copy` in its recipe."""

    name, output, measures = "measure", "figures", True
    inputs: ClassVar = {"thing": Role(("thing",))}
    error = None

    def check(self, config, inputs):
        pass

    def run(self, config, inputs, out):
        self.runs.append(self.name)
        if self.error:
            raise self.error
        return {"measured": len(inputs["thing"].ids("items", ".txt"))}


@pytest.fixture
def toys(csv_data, tmp_path, monkeypatch):
    """Returns plan(*overrides, **fields of the stages) over one store."""
    stages = {"write": Write(), "copy": Copy(), "measure": Measure()}
    Write.runs.clear()
    monkeypatch.setattr(Write, "fail_after", None)
    monkeypatch.setattr(Write, "version", 1)
    monkeypatch.setattr(Measure, "error", None)
    monkeypatch.setattr(recipe_module, "STAGES", stages)
    monkeypatch.setattr(planning, "TABLES", {"write": WriteConfig, "copy": CopyConfig})
    text = csv_data.read_text()
    csv_data.write_text(text[: text.index("[classifier]")])
    (tmp_path / "toys.toml").write_text(RECIPE)
    store = ArtifactStore(tmp_path / "store")
    return lambda *overrides: make_plan(str(tmp_path / "toys.toml"), str(csv_data), store, overrides)


def go(toys, *overrides, repair=False):
    plan = toys(*overrides)
    run_plan(plan, repair)
    return {p.step.name: p.state for p in plan.steps}


def test_a_second_run_executes_nothing(toys):
    assert go(toys) == {"first": "ran", "second": "ran", "judged": "ran"}
    assert go(toys) == {"first": "cached", "second": "cached", "judged": "cached"}
    assert Write.runs == ["write", "copy", "write"]


def test_a_changed_value_reruns_exactly_what_it_reaches(toys):
    go(toys)
    assert go(toys, "copy.times=2") == {"first": "cached", "second": "ran", "judged": "cached"}
    assert go(toys, "write.workers=4")["first"] == "cached"  # how, not what
    assert go(toys, "write.size=5") == {"first": "ran", "second": "ran", "judged": "ran"}
    assert go(toys)["first"] == "cached"  # and the old ones are still there


def test_plan_says_why_before_and_now(toys, monkeypatch):
    assert [p.why for p in toys().steps] == ["never ran"] * 3
    go(toys)
    why = {p.step.name: p.why for p in toys("copy.times=2.5").steps}
    assert why == {"first": "", "second": "copy.times: 1.0 -> 2.5", "judged": ""}
    why = {p.step.name: p.why for p in toys("write.size=3").steps}
    assert why["first"] == "write.size: 1 -> 3" and why["second"] == "input first is made anew"
    monkeypatch.setattr(Write, "version", 2)
    assert toys().steps[0].why == "stage: write v1 -> write v2"


def test_changed_data_is_a_changed_input(toys, csv_data):
    go(toys)
    labels = csv_data.parent / "data" / "train" / "labels.csv"
    labels.write_text(labels.read_text().replace("000,red", "000,blue"))
    assert toys().steps[0].why.startswith("input data.train: ")
    assert go(toys) == {"first": "ran", "second": "ran", "judged": "cached"}


def test_a_stage_that_stops_goes_on_from_its_items(toys, monkeypatch):
    monkeypatch.setattr(Write, "fail_after", 5)
    plan = toys()
    with pytest.raises(StageError, match="stopped on purpose"):
        run_plan(plan)
    assert [r["status"] for r in plan.store.runs().values()] == ["failed"]
    monkeypatch.setattr(Write, "fail_after", None)
    plan = toys()
    assert plan.steps[0].why == "interrupted; it goes on from what is kept"
    run_plan(plan)
    assert plan.steps[0].artifact.manifest["metrics"] == {"made": 12 - 5}


def test_optional_steps_are_left_out_where_the_config_has_no_such_data(toys, csv_data):
    csv_data.write_text("\n".join(line for line in csv_data.read_text().splitlines() if not line.startswith("val")))
    plan = toys()
    assert [(p.step.name, p.state, p.why) for p in plan.steps][2] == (
        "judged",
        "skipped",
        "the config names no data.val",
    )
    run_plan(plan)
    assert list(summary(plan)["stages"]) == ["first", "second"]


def damage(plan, name, content=b"damaged"):
    path = plan.steps[0].artifact.folder / "items" / name
    path.write_bytes(content)
    return path


def test_a_damaged_file_is_found_when_it_is_used_and_rebuilt_on_request(toys):
    plan = toys()
    run_plan(plan)
    path = damage(plan, "003.txt", b"003 9")  # same size: only the digest tells
    with pytest.raises(ArtifactError, match=r"items.003\.txt is missing or damaged.*--repair"):
        go(toys, "copy.times=2")
    assert go(toys, "copy.times=2", repair=True) == {"first": "ran", "second": "ran", "judged": "cached"}
    assert path.read_bytes() == b"003 1"
    assert toys().steps[0].artifact.manifest["metrics"] == {"made": 1}  # the other eleven were kept


@pytest.mark.parametrize("content", [b"", b"longer than it was"])
def test_a_file_of_another_size_is_found_even_when_it_is_not_used(toys, content):
    plan = toys()
    run_plan(plan)
    damage(plan, "003.txt", content)
    assert toys().steps[0].why == "damaged: items/003.txt; run with --repair"
    with pytest.raises(ArtifactError, match="--repair"):
        go(toys)
    assert go(toys, repair=True)["first"] == "ran"


def test_a_damaged_manifest_is_rebuilt_too(toys):
    plan = toys()
    run_plan(plan)
    (plan.steps[0].artifact.folder / "manifest.json").write_text("{")
    with pytest.raises(ArtifactError, match="manifest.json is missing or damaged"):
        go(toys)
    assert go(toys, repair=True) == {"first": "ran", "second": "cached", "judged": "cached"}


def test_the_manifest_says_what_it_was_made_of_and_with(toys):
    plan = toys("write.size=4")
    run_plan(plan)
    manifest = plan.steps[1].artifact.manifest
    assert manifest["inputs"] == {"thing": plan.steps[0].key}
    assert manifest["provenance"]["write"]["size"] == 4
    assert {"python", "packages", "seconds", "peak_memory_mib"} <= set(manifest["made_with"])
    assert set(plan.steps[1].artifact.files) == {"all.txt"}


def test_the_same_run_again_keeps_its_record_and_another_one_gets_its_own(toys):
    plan = toys()
    run_plan(plan)
    go(toys)
    assert len(plan.store.runs()) == 1
    go(toys, "write.size=2")
    assert len(plan.store.runs()) == 2
    plan.store.collect()
    assert go(toys)["first"] == "cached"  # gc keeps what any run refers to


def test_a_step_that_did_not_finish_is_told_from_one_whose_artifact_was_removed(toys, monkeypatch):
    monkeypatch.setattr(Write, "fail_after", 5)
    plan = toys()
    with pytest.raises(StageError):
        run_plan(plan)
    assert [p.why for p in toys().steps] == [
        "interrupted; it goes on from what is kept",
        "it did not finish",
        "it did not finish",
    ]
    monkeypatch.setattr(Write, "fail_after", None)
    plan = toys()
    run_plan(plan)
    shutil.rmtree(plan.steps[1].artifact.folder)
    assert [p.why for p in toys().steps] == ["", "its artifact was removed", ""]
    (run_id, record), *_ = plan.store.runs().items()
    for step in record["steps"].values():
        del step["finished"]  # as in records of old
    plan.store.save_run(run_id, record)
    assert toys().steps[1].why == "it did not finish, or its artifact was removed"


def test_gc_beside_a_run_keeps_what_the_run_has_made(toys, monkeypatch):
    def check(self, config, inputs):
        pass

    def run(self, config, inputs, out):
        ArtifactStore(toys().store.root).collect(keep=0)
        return Write.run(self, config, inputs, out) if self.name == "write" else {}

    go(toys)
    monkeypatch.setattr(Copy, "run", run)
    assert go(toys, "write.size=9") == {"first": "ran", "second": "ran", "judged": "ran"}
    assert len(toys().store.runs()) == 1  # the older run was not in progress


def test_an_input_that_was_removed_meanwhile_is_named(toys):
    go(toys)
    plan = toys("copy.times=2")
    run_plan(toys())

    class Thief:
        def step_started(self, step):
            shutil.rmtree(plan.steps[0].artifact.folder)

        def step_done(self, step, metrics): ...

    with pytest.raises(ArtifactError, match="second: its input first .* was removed .* meanwhile"), listening(Thief()):
        run_plan(plan)


def test_an_artifact_of_a_newer_format_is_neither_used_nor_repaired(toys):
    plan = toys()
    run_plan(plan)
    path = plan.steps[0].artifact.folder / "manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["sha256"]
    manifest["format"] = 2
    manifest["sha256"] = hashlib.sha256(canonical_json(manifest)).hexdigest()
    path.write_text(json.dumps(manifest))
    for repair in (False, True):
        with pytest.raises(FormatError, match=r"manifest\.json: its format is 2"):
            go(toys, repair=repair)
    assert path.is_file()


MEASURED = """
[steps.first]
stage = "write"
inputs = { images = "data.train" }
[steps.figures]
stage = "measure"
inputs = { thing = "first" }
[steps.second]
stage = "copy"
inputs = { thing = "first" }
"""


@pytest.mark.parametrize("error", [StageError("no figure\nfor you"), ZeroDivisionError("0 / 0")])
def test_a_step_that_only_measures_stops_nothing_when_it_fails(toys, tmp_path, monkeypatch, caplog, error):
    (tmp_path / "toys.toml").write_text(MEASURED)
    monkeypatch.setattr(Measure, "error", error)
    plan = toys()
    run_id = run_plan(plan)
    why = "no figure for you" if isinstance(error, StageError) else "ZeroDivisionError: 0 / 0"
    assert [p.state for p in plan.steps] == ["ran", "failed", "ran"] and plan.failed == {"figures": why}
    assert [r.getMessage() for r in caplog.records if r.levelname == "WARNING"] == [
        f"figures: failed: {why}; the run continues"
    ]
    record = plan.store.runs()[run_id]
    assert record["status"] == "failed" and record["steps"]["figures"]["failed"] == why
    assert summary(plan)["stages"]["figures"]["error"] == why
    with pytest.raises(StageError, match="figures failed: .*; all other steps finished") as caught:
        plan.raise_failures()
    assert isinstance(caught.value.__cause__, type(error))  # what --debug shows
    monkeypatch.setattr(Measure, "error", None)
    plan = toys()
    run_plan(plan)
    plan.raise_failures()
    assert [p.state for p in plan.steps] == ["cached", "ran", "cached"]
    assert plan.store.runs()[run_id]["status"] == "finished"
    assert "failed" not in plan.store.runs()[run_id]["steps"]["figures"]


def test_the_command_ends_with_1_when_everything_else_is_done(toys, csv_data, tmp_path, monkeypatch):
    (tmp_path / "toys.toml").write_text(MEASURED)
    monkeypatch.setattr(Measure, "error", StageError("no figure"))
    store = ["--store", str(tmp_path / "store")]
    run = ["run", str(tmp_path / "toys.toml"), "-c", str(csv_data), "--no-report", "--quiet", *store]
    done = CliRunner().invoke(cli, run)
    assert done.exit_code == 1 and "error: figures failed: no figure; all other steps finished" in done.output
    told = json.loads(CliRunner().invoke(cli, [*run, "--json"]).stdout)["stages"]
    assert told["figures"]["status"] == "failed" and told["figures"]["error"] == "no figure"
    assert told["second"]["status"] == "cached"
    assert "(failed)" in CliRunner().invoke(cli, ["status", *store]).output


def test_ctrl_c_during_a_measurement_ends_the_run(toys, tmp_path, monkeypatch):
    (tmp_path / "toys.toml").write_text(MEASURED)
    monkeypatch.setattr(Measure, "error", KeyboardInterrupt())
    plan = toys()
    with pytest.raises(KeyboardInterrupt):
        run_plan(plan)
    assert [r["status"] for r in plan.store.runs().values()] == ["interrupted"]


def without_val(text):
    return "\n".join(line for line in text.splitlines() if not line.startswith("val"))


@pytest.mark.parametrize("recipe", [p.stem for p in sorted(shipped_folder("pipelines").glob("*.toml"))])
def test_only_what_measures_depends_on_the_validation_images(csv_data, tmp_path, recipe):
    """Adding, removing or limiting data.val must not train anything again."""
    store = ArtifactStore(tmp_path / "store")

    def keys(*overrides):
        return {
            p.step.name: (p.key, p.step.stage.measures)
            for p in make_plan(recipe, str(csv_data), store, overrides).active
        }

    whole, limited = keys(), keys("data.val.limit=3")
    changed = {name for name in whole if whole[name] != limited[name]}
    assert "classifier_quality" in changed and {"classifier", "seeds", "segmenter"}.isdisjoint(changed)
    assert all(whole[name][1] or name == "predictions" for name in changed)
    if recipe != "full_supervision":  # which is there to be judged
        csv_data.write_text(without_val(csv_data.read_text()))
        assert keys() == {name: key for name, key in whole.items() if name not in changed}


def test_the_precision_auto_is_hashed_as_what_it_means_here(csv_data, tmp_path, monkeypatch):
    """Two machines that share a store must not take each other's networks for their own."""
    store = ArtifactStore(tmp_path / "store")
    plans = {}
    for meaning in ("float32", "bfloat16"):
        monkeypatch.setattr(planning, "precision_here", lambda _, meaning=meaning: meaning)
        plans[meaning] = make_plan("best", str(csv_data), store, ("seeds.precision=float16",))
        named = make_plan("best", str(csv_data), store, (f"classifier.precision={meaning}",))
        classifier, *_, seeds = [p for p in plans[meaning].steps if p.step.name in ("classifier", "seeds")]
        assert classifier.key == named.steps[0].key and classifier.record()["config"]["precision"] == meaning
        assert classifier.config.precision == meaning and seeds.config.precision == "float16"
    keys = [{p.key for p in plan.steps if hasattr(p.config, "precision")} for plan in plans.values()]
    assert len(keys[0]) > 5 and keys[0].isdisjoint(keys[1])


def test_keys_are_planned_without_torch(csv_data, tmp_path):
    """Only the checks of steps that will run import it: a plan of what is there is a matter of a moment."""
    if device._has_accelerator() or not device._cpu_flags():
        pytest.skip("this machine's precision is found out by torch")
    code = (
        "import sys; import wsseg.running.plan; from wsseg.store.objects import ArtifactStore; from pathlib import Path; "
        "wsseg.running.plan._check_steps = lambda *_: None; "
        f"wsseg.running.plan.make_plan('best', {str(csv_data)!r}, ArtifactStore(Path({str(tmp_path / 'store')!r}))); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


def test_a_store_in_the_folder_of_the_photographs_is_refused_and_leaves_nothing_there(csv_data):
    images = csv_data.parent / "data" / "train" / "images"
    before = sorted(images.iterdir())
    with pytest.raises(
        ConfigError, match="images is a folder of the data set; a store needs another one: choose --store"
    ):
        make_plan("cam_crf", str(csv_data), ArtifactStore(images))
    assert sorted(images.iterdir()) == before
