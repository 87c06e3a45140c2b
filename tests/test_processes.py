"""Several processes under a real launcher (torchrun, which ``accelerate launch --multi_gpu`` also calls), and leftover
variables of a launcher in the environment."""

import os
import shutil
import subprocess
import sys

import pytest

from tests import commands
from wsseg import processes
from wsseg.errors import LaunchError
from wsseg.stages.layout import PER_IMAGE
from wsseg.store.objects import ArtifactStore

# as --standalone, but by number: a machine may not know the name localhost
LAUNCH = [
    sys.executable, "-m", "torch.distributed.run", "--rdzv-backend=c10d", "--rdzv-endpoint=127.0.0.1:0",
    "--local-addr=127.0.0.1", "--nproc_per_node=2",
]  # fmt: skip


def launch(config, store, *more, recipe="cam_crf"):
    command = [*LAUNCH, "-m", "wsseg", "run", recipe, "-c", str(config)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [*command, "--store", str(store), *more], capture_output=True, text=True, timeout=400, env=environment
    )


@pytest.mark.slow
def test_two_processes_train_one_network_and_share_the_images(csv_data, tmp_path):
    done = launch(csv_data, tmp_path / "store")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("classifier: done in") == 1
    store = ArtifactStore(tmp_path / "store")
    made = {a.manifest["step"]: a.manifest["made_with"].get("processes") for a in map(store.get, store.keys())}
    assert made["classifier"] == made["segmenter"] == made["seeds"] == made["predictions"] == 2
    assert made["evaluation"] is None  # the main process alone
    assert not list((tmp_path / "store" / "work").iterdir())
    again = launch(csv_data, tmp_path / "store")
    assert "nothing to do: every step was cached" in again.stdout, again.stderr


@pytest.mark.slow
def test_two_processes_write_the_same_files_of_images_as_one(csv_data, tmp_path):
    """Both start from the same trained networks; only the artifacts with files of images are made again."""
    values = ["walk.when=always", "pseudo_masks.crf=off", "affinity_labels.crf=off", "walked_masks.crf=off"]
    more = [word for value in [*values, "predictions.crf=off"] for word in ("--set", value)]
    alone = commands.run("run", "best", "-c", csv_data, "--store", tmp_path / "one", "--no-report", *more)
    assert alone.returncode == 0, alone.stderr
    one = ArtifactStore(tmp_path / "one")
    shutil.copytree(one.root, tmp_path / "two")
    made = [key for key in one.keys() if one.get(key).kind in PER_IMAGE]
    for key in made:
        shutil.rmtree(tmp_path / "two" / "objects" / key)
    done = launch(csv_data, tmp_path / "two", *more, "--no-report", recipe="best")
    assert done.returncode == 0, done.stderr
    two = ArtifactStore(tmp_path / "two")
    assert two.keys() == one.keys()
    for before, after in ((one.get(key), two.get(key)) for key in made):
        assert after.files == before.files and after.manifest["metrics"] == before.manifest["metrics"]
        assert after.manifest["made_with"].get("processes", 2) == 2
    stages = {two.get(key).manifest["stage"] for key in made}
    assert stages == {"make_seeds", "refine_masks", "walk_seeds", "relabel_masks", "predict_masks"}


def test_the_parts_of_the_processes_are_fixed(environment):
    items = list(range(7))
    parts = []
    for rank in range(3):
        environment(**{**LAUNCHED, "WORLD_SIZE": "3", "RANK": str(rank)})
        parts.append(processes.share(items))
    assert parts == [[0, 3, 6], [1, 4], [2, 5]]
    environment(WORLD_SIZE="1", RANK="2")
    assert processes.share(items) == items and processes.local_count() == 1 and processes.all_done()
    environment(**LAUNCHED, LOCAL_WORLD_SIZE="1")
    assert processes.count() == 2 and processes.local_count() == 1


@pytest.mark.slow
def test_an_error_is_one_line(csv_data, tmp_path):
    done = launch(csv_data, tmp_path / "store", "--set", "classifier.batch_size=3")
    assert done.returncode != 0
    lines = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert len(lines) == 2 and all(
        "batch_size: found 3; expected with 2 processes: a multiple of 2" in x for x in lines
    )
    done = launch(csv_data, tmp_path / "store", "--set", "classifier.epoch=3")
    assert sum(line.startswith("error:") for line in done.stderr.splitlines()) == 1, done.stderr


SCRIPT = """
import os
import sys
import time
from pathlib import Path
import wsseg
from wsseg import api
from wsseg.data import batches
from wsseg.data.transforms import TrainingImages

what, rank = sys.argv[1], int(os.environ["RANK"])
reading, images = TrainingImages.example, []

def broken(self, draw):
    images.append(draw)
    if len(images) > 5 and what == f"{rank} fails":
        raise MemoryError("no more")
    if len(images) > 5 and what == f"{rank} is killed":
        os.kill(os.getpid(), 9)
    return reading(self, draw)

TrainingImages.example = broken

def no_memory(*_):
    raise MemoryError("no more")

if what == f"{rank} fails in seeds":
    batches.read_batch = no_memory
make_plan = api.make_plan

def slow_plan(*args):
    # notes when each process plans; the main process takes a second longer
    with Path("planning.txt").open("a") as file:
        print(rank, "begins", file=file, flush=True)
        time.sleep(1 - rank)
        plan = make_plan(*args)
        print(rank, "ends", file=file, flush=True)
    return plan

api.make_plan = slow_plan
for overrides in ({"classifier.epoch": 1},) if what == "bad value" else ({}, {}):
    try:
        run = wsseg.run("cam_crf", "tiny.toml", overrides=overrides)
        sys.stdout.write(f"{rank}: {run.id} {run.result['miou']} {run.mask('predictions', '001').shape}\\n")
    except wsseg.errors.WssegError as error:
        sys.stdout.write(f"{rank}: {type(error).__name__}: {error}\\n")
        if what != "bad value":
            raise SystemExit(1)
"""


def launch_script(config, what):
    script = config.parent / "script.py"
    script.write_text(SCRIPT, encoding="utf-8")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [*LAUNCH, str(script), what], cwd=config.parent, capture_output=True, text=True, timeout=300, env=environment
    )


@pytest.mark.slow
def test_processes_of_a_script_plan_in_turn_and_all_return_the_result(csv_data):
    done = launch_script(csv_data, "")
    assert done.returncode == 0, done.stderr
    lines = sorted(done.stdout.splitlines())
    assert len(lines) == 4 and len({line.partition(": ")[2] for line in lines}) == 1
    assert [line[0] for line in lines] == ["0", "0", "1", "1"]
    planning = (csv_data.parent / "planning.txt").read_text().splitlines()
    assert planning == ["0 begins", "0 ends", "1 begins", "1 ends"] * 2  # never at the same time


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("how", ["fails", "is killed"])
def test_a_failure_of_one_process_in_a_training_ends_all_processes(csv_data, rank, how):
    done = launch_script(csv_data, f"{rank} {how}")
    assert done.returncode != 0
    if how == "fails":
        assert (
            f"{rank}: MachineError: classifier: out of memory (no more); lower classifier.batch_size (4 now)"
            in done.stdout
        )
    assert "miou" not in done.stdout and "internal error" not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_failure_of_one_process_among_images_ends_all_processes(csv_data, rank):
    done = launch_script(csv_data, f"{rank} fails in seeds")
    assert done.returncode != 0 and "miou" not in done.stdout
    assert f"{rank}: MachineError: seeds: out of memory (no more); lower seeds.batch_size (3 now)" in done.stdout


@pytest.mark.slow
def test_scripts_that_catch_errors_do_not_wait_for_each_other(csv_data):
    done = launch_script(csv_data, "bad value")
    assert done.returncode == 0, done.stderr
    assert "0: ConfigError: " in done.stdout and "1: OtherProcessError: the main process failed: " in done.stdout


LAUNCHED = {"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}


@pytest.fixture
def environment(monkeypatch):
    """Return a function that sets exactly these variables of a launcher."""

    def set_all(**variables):
        for name in processes.LAUNCHER_VARIABLES:
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return set_all


@pytest.mark.parametrize(
    "variables",
    [{}, {"RANK": ""}, {"RANK": "3"}, {"RANK": "x"}, {"WORLD_SIZE": ""}, {"WORLD_SIZE": "1", "RANK": "0"},
     {"WORLD_SIZE": " 1 "}, {"RANK": "", "WORLD_SIZE": "", "LOCAL_RANK": ""}],
)  # fmt: skip
def test_a_process_without_a_launcher_is_the_main_process(environment, variables):
    environment(**variables)
    assert processes.count() == 1 and processes.is_main()
    with processes.launcher_hidden():
        assert not [name for name in processes.LAUNCHER_VARIABLES if name in os.environ]
    assert all(os.environ[name] == value for name, value in variables.items())


def test_a_launched_process_knows_its_rank(environment):
    environment(**LAUNCHED)
    assert processes.count() == 2 and not processes.is_main()
    with processes.launcher_hidden():
        assert os.environ["RANK"] == "1"


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"WORLD_SIZE": "two"}, "found WORLD_SIZE='two'; expected: a whole number"),
        ({"WORLD_SIZE": "-2"}, "found WORLD_SIZE='-2'"),
        ({"WORLD_SIZE": "2"}, "WORLD_SIZE is 2, but not set: RANK, LOCAL_RANK, MASTER_ADDR, MASTER_PORT"),
        ({**LAUNCHED, "RANK": ""}, "not set: RANK"),
        ({**LAUNCHED, "RANK": "2"}, "found RANK 2; expected: less than WORLD_SIZE, 2"),
        ({**LAUNCHED, "RANK": "one"}, "found RANK='one'"),
    ],
)  # fmt: skip
def test_an_invalid_environment_is_refused(environment, variables, message):
    environment(**variables)
    with pytest.raises(LaunchError, match=message):
        processes.is_main()
