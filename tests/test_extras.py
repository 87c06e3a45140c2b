"""Without the packages of the extras, the first three commands run, and what needs an extra names it in one line."""

import configparser
import os
import re
import shutil
import subprocess
import sys

import pytest

from tests.conftest import REPOSITORY, shrink_config, write_csv_data

BLOCKED = {
    "report": ("jinja2", "matplotlib", "starlette", "uvicorn"),
    "coco": ("pycocotools",),
    "export": ("onnx", "onnxruntime", "onnxscript"),
    "saliency": ("captum",),
    "sequences": ("biopython",),
    "foundation": ("transformers",),
}
# jinja2 is blocked for wsseg only: PyTorch, which requires it, imports it too
SCRIPT = """
import builtins, sys

blocked, whole = set(sys.argv.pop(1).split(",")), builtins.__import__

def without(name, globals=None, locals=None, fromlist=(), level=0):
    package = name.partition(".")[0]
    if level == 0 and package in blocked and (globals or {}).get("__name__", "").partition(".")[0] in ("wsseg", "torch"):
        raise ModuleNotFoundError(f"No module named {name!r}", name=package)
    return whole(name, globals, locals, fromlist, level)

builtins.__import__ = without
from wsseg.cli.main import main

sys.argv[0] = "wsseg"
main()
"""


def wsseg(*words, cwd):
    blocked = ",".join(name for names in BLOCKED.values() for name in names)
    environment = {k: v for k, v in os.environ.items() if k != "WSSEG_STORE"} | {"PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-c", SCRIPT, blocked, *words]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300)


def test_the_packages_of_the_extras_are_not_hard_dependencies():
    parser = configparser.ConfigParser()
    parser.read(REPOSITORY / "setup.cfg", encoding="utf-8")

    def names(text):
        return {re.split(r"[ =<>\[]", line)[0] for line in text.splitlines() if line and not line.startswith("#")}

    hard = names(parser["options"]["install_requires"])
    for extra, packages in BLOCKED.items():
        assert names(parser["options.extras_require"][extra]) == set(packages)
        assert hard.isdisjoint(packages)


@pytest.mark.slow
def test_the_first_three_commands_run_and_the_others_name_their_extra(tmp_path):
    write_csv_data(tmp_path / "source")
    shutil.copytree(tmp_path / "source" / "data" / "train" / "images", tmp_path / "photos")
    shutil.copy(tmp_path / "source" / "data" / "train" / "labels.csv", tmp_path / "photos")

    done = wsseg("init", "photos", "-o", "mine.toml", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    shrink_config(tmp_path / "mine.toml")
    done = wsseg("run", "cam_crf", "-c", "mine.toml", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert re.findall(r"no report: .*pip install 'wsseg\[(\w+)\]'", done.stderr) == ["report"]
    done = wsseg("predict", "segmenter", "photos", "-o", "masks", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "masks").glob("*.png"))) == 12

    for words, extra in (
        (["report", "-o", "report.html"], "report"),
        (["view"], "report"),
        (["export", "pseudo_masks", "--format", "coco"], "coco"),
        (["export", "segmenter", "--format", "onnx"], "export"),
    ):
        done = wsseg(*words, cwd=tmp_path)
        assert done.returncode == 1 and done.stderr.count("\n") == 1, done.stderr
        assert done.stderr.endswith(f"run: pip install 'wsseg[{extra}]'\n")


def test_polygons_and_guided_backpropagation_name_their_extra(monkeypatch):
    import numpy as np
    import torch
    from torch import nn

    from wsseg.data.outlines import Polygons
    from wsseg.errors import MissingExtraError
    from wsseg.saliency.gradients import guided_backpropagation

    for name in ("pycocotools", "captum", "captum.attr"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtraError, match=r"pip install 'wsseg\[coco\]'"):
        Polygons((np.array([[1.0, 1.0], [5.0, 1.0], [5.0, 5.0]]),)).region((8, 8))
    with pytest.raises(MissingExtraError, match=r"pip install 'wsseg\[saliency\]'"):
        guided_backpropagation(nn.Sequential(nn.ReLU()), torch.zeros(1, 3, 8, 8), [0])
