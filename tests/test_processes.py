"""Several processes under a real launcher: torchrun, which ``accelerate launch --multi_gpu`` calls as well."""

import os
import subprocess
import sys

import pytest

from wsseg.store import ArtifactStore

LAUNCH = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]


def launch(config, store, *more):
    command = [*LAUNCH, "-m", "wsseg", "run", "cam_crf", "-c", str(config)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [*command, "--store", str(store), *more], capture_output=True, text=True, timeout=400, env=environment
    )


@pytest.mark.slow
def test_two_processes_train_one_network_and_the_first_does_the_rest(csv_data, tmp_path):
    done = launch(csv_data, tmp_path / "store")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("classifier: done in") == 1
    store = ArtifactStore(tmp_path / "store")
    made = {a.manifest["step"]: a.manifest["made_with"].get("processes") for a in map(store.get, store.keys())}
    assert made["classifier"] == made["segmenter"] == 2 and made["seeds"] == 1
    assert not list((tmp_path / "store" / "work").iterdir())
    again = launch(csv_data, tmp_path / "store")
    assert "nothing to do: every step was cached" in again.stdout, again.stderr


@pytest.mark.slow
def test_an_error_is_one_line_of_the_first_process(csv_data, tmp_path):
    done = launch(csv_data, tmp_path / "store", "--set", "classifier.batch_size=3")
    assert done.returncode != 0
    lines = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert len(lines) == 2 and all(
        "batch_size: found 3; legal with 2 processes: a multiple of that" in x for x in lines
    )
    done = launch(csv_data, tmp_path / "store", "--set", "classifier.epoch=3")
    assert sum(line.startswith("error:") for line in done.stderr.splitlines()) == 1, done.stderr
