"""Commands about the store."""

import pytest
from click.testing import CliRunner

from wsseg.cli.main import cli
from wsseg.store.objects import ArtifactStore

RECORD = {"recipe": "r", "config_name": "c", "started": "", "status": "running", "steps": {}}


@pytest.mark.parametrize(
    "words",
    [
        ["status"],
        ["verify"],
        ["gc", "--delete"],
        ["show", "x"],
        ["report"],
        ["view"],
        ["export", "x", "--format", "coco"],
    ],
    ids=" ".join,
)
def test_commands_that_only_read_create_no_store(tmp_path, words):
    result = CliRunner().invoke(cli, [*words, "--store", str(tmp_path / "typo")])
    assert result.exit_code == 1 and "typo: there is no store" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_status_distinguishes_a_killed_run_from_one_in_progress(tmp_path):
    store = ArtifactStore(tmp_path)
    with store.run_in_progress("one", RECORD):
        assert "one: running" in CliRunner().invoke(cli, ["status", "--store", str(tmp_path)]).stdout
    assert "one: interrupted" in CliRunner().invoke(cli, ["status", "--store", str(tmp_path)]).stdout


def test_status_lists_the_log_of_each_run(tmp_path):
    store = ArtifactStore(tmp_path)
    for run_id in ("one", "two"):
        store.save_run(run_id, {**RECORD, "status": "finished"})
    store.log_path("two").write_text("12:00 it started")
    lines = CliRunner().invoke(cli, ["status", "--store", str(tmp_path)]).stdout.splitlines()
    assert lines[:3] == ["one: finished", "two: finished", f"  log: {tmp_path / 'runs' / 'two.log'}"]


def test_status_gives_the_reason_for_each_incomplete_step(tmp_path):
    store = ArtifactStore(tmp_path)
    step = {"stage": "s", "version": 1, "config": {}, "inputs": {}}
    steps = {
        name: {**step, "key": digit * 64}
        for name, digit in zip(("never", "half", "broken", "bad"), "abcd", strict=True)
    }
    steps["bad"]["failed"] = "no figure"
    (tmp_path / "work" / steps["half"]["key"]).mkdir()
    (tmp_path / "objects" / steps["broken"]["key"]).mkdir()
    (tmp_path / "objects" / steps["broken"]["key"] / "manifest.json").write_text("{")
    store.save_run("one", {**RECORD, "status": "finished", "steps": steps})
    result = CliRunner().invoke(cli, ["status", "--store", str(tmp_path)])
    line = "one: finished; never (missing), half (unfinished), broken (damaged), bad (failed)"
    assert line in result.stdout.splitlines(), result.output
