"""Shell completion, requested as a shell does."""

import os
import shutil
import subprocess
import sys

import pytest

from wsseg.running.execute import _new_record as recorded
from wsseg.running.plan import make_plan
from wsseg.store.objects import ArtifactStore


def completions(words, cwd):
    """Return the completions of the last word in bash."""
    environment = os.environ | {
        "_WSSEG_COMPLETE": "bash_complete",
        "COMP_WORDS": " ".join(["wsseg", *words]),
        "COMP_CWORD": str(len(words)),
    }
    done = subprocess.run(
        [sys.executable, "-c", "from wsseg.cli.main import cli; cli(prog_name='wsseg')"],
        env=environment,
        capture_output=True,
        text=True,
        cwd=cwd,
        timeout=60,
    )
    return [line.split(",", 1)[1] for line in done.stdout.splitlines()]


@pytest.mark.parametrize(("words", "expected"), [
    (["run", "cam"], ["cam_crf"]),
    (["run", "cam_crf", "-c", "voc_"], ["voc_vehicles"]),
    (["run", "cam_crf", "-c", "demo", "--set", "segmenter.ep"], ["segmenter.epochs="]),
    (["expo"], ["export"]),
])  # fmt: skip
def test_shipped_names_are_completed(words, expected, tmp_path):
    assert completions(words, tmp_path) == expected
    assert list(tmp_path.iterdir()) == []  # completion creates no store


def test_steps_and_runs_of_the_store_are_completed(csv_data, tmp_path):
    store = ArtifactStore(tmp_path / "wsseg-store")
    run, record = recorded(make_plan("cam_crf", str(csv_data), store))
    store.save_run(run, record)
    assert completions(["export", "segm"], tmp_path) == ["segmenter"]
    assert completions(["report", run[:9]], tmp_path) == [run]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_scripts_are_valid(shell, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "wsseg", "completion", shell], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0 and "_WSSEG_COMPLETE" in done.stdout
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed, so its script cannot be checked")
    file = tmp_path / "script"
    file.write_text(done.stdout)
    assert subprocess.run([shell, "-n", str(file)], timeout=60).returncode == 0
