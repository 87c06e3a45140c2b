"""Execution of plans over toy stages, and of real pipelines in processes that are killed."""

import hashlib
import json
import os
import shutil
import signal
import time

import pytest
from click.testing import CliRunner

from tests.commands import Command
from tests.running.toys import MEASURED_RECIPE, Copy, Measure, Write, run_toys
from wsseg.cli.main import cli
from wsseg.config import shipped_folder
from wsseg.errors import ArtifactError, FormatError, StageError
from wsseg.progress import listening
from wsseg.running.execute import run_plan
from wsseg.running.plan import summary
from wsseg.store.files import canonical_json
from wsseg.store.objects import ArtifactStore


def test_a_second_run_executes_no_step(toys):
    assert run_toys(toys) == {"first": "ran", "second": "ran", "evaluated": "ran"}
    assert run_toys(toys) == {"first": "cached", "second": "cached", "evaluated": "cached"}
    assert Write.runs == ["write", "copy", "write"]


def test_a_changed_value_reruns_only_the_steps_that_depend_on_it(toys):
    run_toys(toys)
    assert run_toys(toys, "copy.times=2") == {"first": "cached", "second": "ran", "evaluated": "cached"}
    assert run_toys(toys, "write.workers=4")["first"] == "cached"  # an execution value
    assert run_toys(toys, "write.size=5") == {"first": "ran", "second": "ran", "evaluated": "ran"}
    assert run_toys(toys)["first"] == "cached"  # the earlier artifacts are kept


def test_a_failed_stage_resumes_from_its_items(toys, monkeypatch):
    monkeypatch.setattr(Write, "fail_after", 5)
    plan = toys()
    with pytest.raises(StageError, match="stopped on purpose"):
        run_plan(plan)
    assert [r["status"] for r in plan.store.runs().values()] == ["failed"]
    monkeypatch.setattr(Write, "fail_after", None)
    plan = toys()
    assert plan.steps[0].why == "interrupted; will resume"
    run_plan(plan)
    assert plan.steps[0].artifact.manifest["metrics"] == {"made": 12 - 5}


def damage(plan, name, content=b"damaged"):
    path = plan.steps[0].artifact.folder / "items" / name
    path.write_bytes(content)
    return path


def test_a_damaged_file_is_detected_when_it_is_read_and_rebuilt_with_repair(toys):
    plan = toys()
    run_plan(plan)
    path = damage(plan, "003.txt", b"003 9")  # of the same size, but with another digest
    with pytest.raises(ArtifactError, match=r"items.003\.txt is missing or damaged.*--repair"):
        run_toys(toys, "copy.times=2")
    assert run_toys(toys, "copy.times=2", repair=True) == {"first": "ran", "second": "ran", "evaluated": "cached"}
    assert path.read_bytes() == b"003 1"
    assert toys().steps[0].artifact.manifest["metrics"] == {"made": 1}  # the other eleven are kept


@pytest.mark.parametrize("content", [b"", b"longer than it was"])
def test_a_file_of_another_size_is_detected_before_it_is_read(toys, content):
    plan = toys()
    run_plan(plan)
    damage(plan, "003.txt", content)
    assert toys().steps[0].why == "damaged: items/003.txt; run with --repair"
    with pytest.raises(ArtifactError, match="--repair"):
        run_toys(toys)
    assert run_toys(toys, repair=True)["first"] == "ran"


def test_a_damaged_manifest_is_rebuilt(toys):
    plan = toys()
    run_plan(plan)
    (plan.steps[0].artifact.folder / "manifest.json").write_text("{")
    with pytest.raises(ArtifactError, match="manifest.json is missing or damaged"):
        run_toys(toys)
    assert run_toys(toys, repair=True) == {"first": "ran", "second": "cached", "evaluated": "cached"}


def test_the_manifest_records_inputs_values_and_environment(toys):
    plan = toys("write.size=4")
    run_plan(plan)
    manifest = plan.steps[1].artifact.manifest
    assert manifest["inputs"] == {"thing": plan.steps[0].key}
    assert manifest["provenance"]["write"]["size"] == 4
    assert {"python", "packages", "seconds", "peak_memory_mib"} <= set(manifest["made_with"])
    assert set(plan.steps[1].artifact.files) == {"all.txt"}


def test_a_repeated_run_keeps_its_record_and_another_run_gets_a_new_one(toys):
    plan = toys()
    run_plan(plan)
    run_toys(toys)
    assert len(plan.store.runs()) == 1
    run_toys(toys, "write.size=2")
    assert len(plan.store.runs()) == 2
    plan.store.collect()
    assert run_toys(toys)["first"] == "cached"  # gc keeps the artifacts of every run


def test_gc_during_a_run_keeps_the_artifacts_of_the_run(toys, monkeypatch):
    def run(self, config, inputs, out):
        ArtifactStore(toys().store.root).collect(keep=0)
        return Write.run(self, config, inputs, out) if self.name == "write" else {}

    run_toys(toys)
    monkeypatch.setattr(Copy, "run", run)
    assert run_toys(toys, "write.size=9") == {"first": "ran", "second": "ran", "evaluated": "ran"}
    assert len(toys().store.runs()) == 1  # the older run was not in progress


def test_an_input_that_was_removed_during_the_run_is_named(toys):
    run_toys(toys)
    plan = toys("copy.times=2")
    run_plan(toys())

    class Remover:
        def step_started(self, step):
            shutil.rmtree(plan.steps[0].artifact.folder)

        def step_done(self, step, metrics): ...

    with (
        pytest.raises(ArtifactError, match="second: its input 'first' .* was removed .* during the run"),
        listening(Remover()),
    ):
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
            run_toys(toys, repair=repair)
    assert path.is_file()


@pytest.mark.parametrize("error", [StageError("no figure\nfor you"), ZeroDivisionError("0 / 0")])
def test_a_run_continues_after_a_failed_measuring_step(toys, tmp_path, monkeypatch, caplog, error):
    (tmp_path / "toys.toml").write_text(MEASURED_RECIPE)
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
    with pytest.raises(StageError, match="figures failed: .*; all other steps finished") as excinfo:
        plan.raise_failures()
    assert isinstance(excinfo.value.__cause__, type(error))  # --debug shows it
    monkeypatch.setattr(Measure, "error", None)
    plan = toys()
    run_plan(plan)
    plan.raise_failures()
    assert [p.state for p in plan.steps] == ["cached", "ran", "cached"]
    assert plan.store.runs()[run_id]["status"] == "finished"
    assert "failed" not in plan.store.runs()[run_id]["steps"]["figures"]


def test_the_command_ends_with_1_after_a_failed_measuring_step(toys, csv_data, tmp_path, monkeypatch):
    (tmp_path / "toys.toml").write_text(MEASURED_RECIPE)
    monkeypatch.setattr(Measure, "error", StageError("no figure"))
    store = ["--store", str(tmp_path / "store")]
    run = ["run", str(tmp_path / "toys.toml"), "-c", str(csv_data), "--no-report", "--quiet", *store]
    done = CliRunner().invoke(cli, run)
    assert done.exit_code == 1 and "error: figures failed: no figure; all other steps finished" in done.output
    stages = json.loads(CliRunner().invoke(cli, [*run, "--json"]).stdout)["stages"]
    assert stages["figures"]["status"] == "failed" and stages["figures"]["error"] == "no figure"
    assert stages["second"]["status"] == "cached"
    assert "(failed)" in CliRunner().invoke(cli, ["status", *store]).output


def test_ctrl_c_during_a_measuring_step_ends_the_run(toys, tmp_path, monkeypatch):
    (tmp_path / "toys.toml").write_text(MEASURED_RECIPE)
    monkeypatch.setattr(Measure, "error", KeyboardInterrupt())
    plan = toys()
    with pytest.raises(KeyboardInterrupt):
        run_plan(plan)
    assert [r["status"] for r in plan.store.runs().values()] == ["interrupted"]


# --- real processes that are killed: the result must equal an undisturbed run byte for byte ---------------------------


def start(config, store, recipe="cam_crf"):
    return Command("run", recipe, "-c", config, "--store", store)


def finish(config, store, recipe="cam_crf"):
    process = start(config, store, recipe)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    return errors


def digests(store):
    """Return the digest of every file of every artifact, by key."""
    return {key: ArtifactStore(store).get(key).files for key in ArtifactStore(store).keys()}


def stop_when(config, store, pattern, count, how, recipe="cam_crf", done=0):
    """Start a run, send it a signal when `count` files match below work/ and `done` steps are finished; return its stderr."""
    process = start(config, store, recipe)
    deadline = time.monotonic() + 200
    while process.poll() is None and time.monotonic() < deadline:
        finished = len(list((store / "objects").glob("*"))) if done else 0
        if len(list((store / "work").glob(pattern))) >= count and finished >= done:
            process.send_signal(how)
            break
        time.sleep(0.002)
    _, errors = process.communicate(timeout=60)
    assert process.returncode != 0, "the run ended before it could be stopped"
    return errors


@pytest.fixture
def slow_config(csv_data):
    """Return a config whose trainings are long enough to be stopped between epochs, with a teacher and random erasing."""
    text = csv_data.read_text().replace("epochs = 2", "epochs = 8").replace("epochs = 3", "epochs = 8")
    text = text.replace("[segmenter]", "[segmenter]\nema_decay = 0.9")
    text = text.replace("[classifier]", '[classifier]\nerase = "random"')
    csv_data.write_text(text)
    return csv_data


@pytest.mark.slow
def test_kills_between_items_and_between_epochs_change_no_byte(slow_config, tmp_path):
    finish(slow_config, tmp_path / "undisturbed")
    store = tmp_path / "killed"
    stop_when(slow_config, store, "*/checkpoint.safetensors", 1, signal.SIGKILL)  # during the epochs of the classifier
    stop_when(slow_config, store, "*/seeds/*.png", 2, signal.SIGKILL)
    stop_when(slow_config, store, "*/masks/*.png", 3, signal.SIGKILL)
    stop_when(slow_config, store, "*/checkpoint.safetensors", 1, signal.SIGKILL)  # of the segmenter
    errors = finish(slow_config, store)
    assert "resumes after epoch" in errors and "classifier: cached" in errors
    assert digests(store) == digests(tmp_path / "undisturbed")
    assert list((store / "work").iterdir()) == []


RELABELING = """
[steps.pseudo_masks_1]
stage = "relabel_masks"
inputs = { images = "data.train", segmenter = "segmenter", previous = "pseudo_masks" }
"""


@pytest.mark.slow
def test_kills_during_the_walk_and_relabeling_change_no_byte(csv_data, tmp_path):
    recipe = tmp_path / "irn_relabeled.toml"
    recipe.write_text((shipped_folder("pipelines") / "irn.toml").read_text() + RELABELING)
    finish(csv_data, tmp_path / "undisturbed", recipe)
    store = tmp_path / "killed"
    stop_when(csv_data, store, "*/seeds/*.png", 2, signal.SIGKILL, recipe, done=6)  # of the walk
    stop_when(csv_data, store, "*/masks/*.png", 2, signal.SIGKILL, recipe, done=13)  # of the relabeling
    finish(csv_data, store, recipe)
    assert digests(store) == digests(tmp_path / "undisturbed")
    assert len(digests(store)) == 14 and list((store / "work").iterdir()) == []


@pytest.mark.slow
def test_ctrl_c_is_reported_in_one_line(slow_config, tmp_path):
    store = tmp_path / "store"
    begin = time.monotonic()
    errors = stop_when(slow_config, store, "*/checkpoint.safetensors", 1, signal.SIGINT)
    assert (
        "Interrupted. Finished work is kept; run the same command again to resume." in errors
        and "Traceback" not in errors
    )
    assert time.monotonic() - begin < 120
    record = json.loads(next((store / "runs").glob("*.json")).read_text())
    assert record["status"] == "interrupted"


@pytest.mark.slow
def test_two_runs_on_one_store_share_the_work(csv_data, tmp_path):
    processes = [start(csv_data, tmp_path / "store") for _ in range(2)]
    errors = [p.communicate(timeout=400)[1] for p in processes]
    assert [p.returncode for p in processes] == [0, 0], errors
    ran = sum(text.count(": done in") for text in errors)
    assert ran == 9, errors  # each step once, in one of both processes
    assert all(not store_key.startswith(".") for store_key in os.listdir(tmp_path / "store" / "objects"))
