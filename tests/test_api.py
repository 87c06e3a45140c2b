"""The Python API: runs, results, segmenters and callbacks."""

import contextlib
import multiprocessing
import os
import pty
import re
import shutil
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest
from PIL import Image as PILImage

import wsseg
from wsseg.errors import ArtifactError, ConfigError, DatasetError, LaunchError, MachineError, StageError
from wsseg.progress import TensorBoard
from wsseg.running import execute


class Recorder:
    """A callback that records its events."""

    def __init__(self):
        self.events = []

    def step_started(self, step):
        self.events.append(("started", step))

    def epoch_done(self, step, epoch, epochs, metrics):
        assert metrics["loss"] > 0
        self.events.append((step, epoch, epochs))

    def step_done(self, step, metrics):
        self.events.append(("done", step))


@pytest.mark.slow
def test_run_inspect_and_segment(csv_data, tmp_path):
    store, recorder = tmp_path / "store", Recorder()
    done = wsseg.run(
        "cam_crf",
        csv_data,
        store=store,
        overrides={"segmenter.epochs": 2, "seeds.scales": (1.0,)},
        callbacks=[recorder],
    )
    assert 0 <= done.result["miou"] <= 1 and done.result["conditions"]["split"] == "val"
    assert done.mask("pseudo_masks", "001").shape == (48, 64) and done.seed("seeds", "001").size == (48, 64)
    assert set(done.metrics("classifier")) == {"loss", "chosen"} and done.failed == {}
    assert set(done.metrics("classifier_quality")) == {"map", "ap", "exact_match", "images", "conditions"}
    steps = list(done.artifacts)
    assert [s for kind, s in (t for t in recorder.events if len(t) == 2) if kind == "done"] == steps
    assert [t for t in recorder.events if t[0] == "segmenter"] == [("segmenter", 1, 2), ("segmenter", 2, 2)]
    again = Recorder()
    assert (
        wsseg.run(
            "cam_crf",
            csv_data,
            store=store,
            overrides={"segmenter.epochs": 2, "seeds.scales": [1.0]},
            callbacks=[again],
        ).id
        == done.id
    )
    assert again.events == []  # all was cached
    with pytest.raises(ArtifactError, match="no such step in run"):
        done.mask("masks", "001")

    segmenter = wsseg.load_segmenter(store=store, crf="off", scales=[1.0])
    assert segmenter.classes == ("background", "red", "blue")
    photograph = tmp_path / "data" / "val" / "images" / "001.png"
    mask = segmenter.predict(photograph)
    assert mask.shape == (48, 64) and mask.dtype == np.uint8
    assert (segmenter.predict(np.asarray(PILImage.open(photograph))) == mask).all()
    assert (wsseg.load_segmenter(done.artifacts["segmenter"].key[:12], store=store).predict(str(photograph)) <= 2).all()
    for wrong, error in (
        ("nowhere.jpg", DatasetError),
        (np.zeros((4, 4), np.uint8), StageError),
        (np.zeros((4, 4, 3)), StageError),
    ):
        with pytest.raises(error):
            segmenter.predict(wrong)
    with pytest.raises(ArtifactError, match="expected: segmenter"):
        wsseg.load_segmenter("classifier", store=store)
    with pytest.raises(ConfigError, match="did you mean 'flip'"):
        wsseg.load_segmenter(store=store, flipp=True)


def test_values_are_checked_as_in_a_config(csv_data, tmp_path):
    with pytest.raises(ConfigError, match="did you mean 'epochs'"):
        wsseg.run("cam_crf", csv_data, store=tmp_path / "store", overrides={"segmenter.epoch": 2})
    with pytest.raises(ConfigError, match="expected: a TOML value"):
        wsseg.run("cam_crf", csv_data, store=tmp_path / "store", overrides={"segmenter.epochs": None})


@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_a_worker_process_cannot_call_run(csv_data, method):
    context = multiprocessing.get_context(method)
    refused = pytest.raises(LaunchError, match="a worker process of multiprocessing; expected: the main process")
    with ProcessPoolExecutor(1, mp_context=context) as pool, refused:
        pool.submit(wsseg.run, "cam_crf", csv_data).result(60)


def test_a_script_that_is_imported_by_its_own_workers_ends_in_one_line(csv_data):
    """The script has no ``if __name__ == "__main__"``, and its workers are not those of wsseg."""
    script = csv_data.parent / "script.py"
    script.write_text(
        "import multiprocessing, wsseg\n"
        "process = multiprocessing.get_context('spawn').Process(target=print)\n"
        "if multiprocessing.current_process().name == 'MainProcess':\n"
        "    process.start(); process.join(); raise SystemExit(process.exitcode)\n"
        "wsseg.run('cam_crf', 'tiny.toml')\n",
        encoding="utf-8",
    )
    done = subprocess.run([sys.executable, "script.py"], cwd=script.parent, capture_output=True, text=True, timeout=100)
    assert done.returncode == 1 and "LaunchError: wsseg.run: called in " in done.stderr.splitlines()[-1]
    assert not (script.parent / "wsseg-store").exists()


def test_a_full_disk_is_an_error_of_wsseg(csv_data, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device", "store/runs")

    monkeypatch.setattr(execute, "_new_record", full)
    with pytest.raises(MachineError, match="store/runs: No space left on device; finished work is kept"):
        wsseg.run("cam_crf", csv_data, store=tmp_path / "store")


def test_tensorboard_reads_the_written_metrics(tmp_path):
    events = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="pip install wsseg[dev]"
    )
    writer = TensorBoard(tmp_path / "board")
    writer.step_started("segmenter")
    for epoch, loss in ((1, 0.5), (2, 0.25)):
        writer.epoch_done("segmenter", epoch, 2, {"loss": loss})
    writer.step_done("evaluation", {"miou": 0.75, "iou": {"boat": 0.5, "none": None}, "conditions": {}})
    board = events.EventAccumulator(str(tmp_path / "board"))
    board.Reload()
    assert [(e.step, e.value) for e in board.Scalars("segmenter/loss")] == [(1, 0.5), (2, 0.25)]
    assert board.Scalars("evaluation/miou")[0].value == 0.75 and board.Scalars("evaluation/iou/boat")[0].value == 0.5


def test_importing_wsseg_imports_neither_numpy_nor_torch():
    script = "import sys, wsseg\nassert 'numpy' not in sys.modules\nwsseg.run\nassert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)
    with pytest.raises(AttributeError, match="no attribute 'runn'"):
        wsseg.runn  # noqa: B018


SCRIPT = """
import logging, sys
import wsseg
if len(sys.argv) > 1:
    logging.getLogger("wsseg").setLevel(sys.argv[1])
run = wsseg.run("recipe.toml", "tiny.toml", overrides={"classifier.epochs": 1})
print(list(run.artifacts))
assert logging.getLogger("wsseg").handlers == [] and logging.getLogger("wsseg").propagate
"""
RECIPE = """
[steps.classifier]
stage = "train_classifier"
inputs = { images = "data.train" }
"""


def run_script(folder, *arguments, terminal=False):
    """Run a plain script that calls wsseg.run; returns what it writes to stderr, a pipe or a terminal of 120 columns."""
    (folder / "recipe.toml").write_text(RECIPE)
    (folder / "script.py").write_text(SCRIPT)
    ours, theirs = pty.openpty() if terminal else os.pipe()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "120"}
    script = subprocess.Popen(
        [sys.executable, "script.py", *arguments], cwd=folder, stdout=subprocess.PIPE, stderr=theirs, env=environment
    )
    os.close(theirs)
    written = b""
    with contextlib.suppress(OSError):  # the end of a terminal
        while data := os.read(ours, 4096):
            written += data
    os.close(ours)
    assert script.communicate(timeout=60)[0] == b"['classifier']\n", written.decode()
    return written.decode()


@pytest.mark.slow
def test_a_script_shows_steps_in_a_pipe_and_a_bar_on_a_terminal(csv_data):
    text = run_script(csv_data.parent)
    assert "\x1b" not in text and "\r" not in text
    lines = text.splitlines()
    assert lines[0] == "classifier: runs (never ran)" and lines[-1].startswith("classifier: done in ")
    assert "classifier: cached" in run_script(csv_data.parent)
    shutil.rmtree(csv_data.parent / "wsseg-store")
    drawn = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", run_script(csv_data.parent, terminal=True))
    assert "classifier: runs (never ran)" in drawn and "1/1 classifier · classifier epoch 1/1" in drawn


@pytest.mark.slow
def test_a_script_that_configures_logging_itself_shows_nothing(csv_data):
    assert run_script(csv_data.parent, "WARNING", terminal=True) == ""
    (log,) = (csv_data.parent / "wsseg-store" / "runs").glob("*.log")
    assert (
        "INFO classifier: done in " in log.read_text()
        and "command: wsseg.run('recipe.toml', 'tiny.toml')" in log.read_text()
    )
