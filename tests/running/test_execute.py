"""Caching, repair, resume and failures, by counting executed stages; the stages are toys, the store is real."""

import hashlib
import json
import shutil

import pytest
from click.testing import CliRunner

from tests.running.toys import MEASURED_RECIPE, Copy, Measure, Write, run_toys
from wsseg.cli.main import cli
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
    with pytest.raises(StageError, match="figures failed: .*; all other steps finished") as caught:
        plan.raise_failures()
    assert isinstance(caught.value.__cause__, type(error))  # --debug shows it
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
