"""Finished runs, weakly and fully supervised, of images and classes whose names look like HTML."""

import csv
import json
import os
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from filelock import FileLock

from tests.conftest import write_csv_data
from wsseg.report.run_report import RunReport, gather
from wsseg.running.execute import run_plan
from wsseg.running.plan import make_plan
from wsseg.store.objects import ArtifactStore
from wsseg.store.runs import find_run

HOSTILE = ('<img src=x onerror="alert(1)">', "</script><script>alert(2)</script>&amp;'")


class Runs(NamedTuple):
    """A store with a weakly supervised run, the same with other values, and a fully supervised run."""

    store: ArtifactStore
    weak: str
    changed: str
    full: str
    config: Path


@pytest.fixture(scope="session")
def runs(tmp_path_factory) -> Runs:
    """Return the finished runs; all test processes share them, and the first process makes them."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "report"
    made = folder / "runs.json"
    with FileLock(f"{folder}.lock"):
        if not made.exists():
            folder.mkdir()
            made.write_text(json.dumps(make_runs(folder)), encoding="utf-8")
    return Runs(ArtifactStore(folder / "store"), *json.loads(made.read_text(encoding="utf-8")), folder / "tiny.toml")


def make_runs(folder: Path) -> list[str]:
    """Make the data set, the store and its three runs; return their ids."""
    config = write_csv_data(folder)
    names = dict(zip(("red", "blue"), HOSTILE, strict=True))
    text = config.read_text().replace('classes = ["red", "blue"]', f'classes = {json.dumps(HOSTILE)}\nseparator = "|"')
    config.write_text(text)
    for split in ("train", "val"):
        base = folder / "data" / split
        with (base / "labels.csv").open() as file:
            rows = list(csv.reader(file))
        for row in rows[1:]:
            row[1] = names.get(row[1], "")
        hostile = f"<b>{rows[1][0]}&'\"</b>".replace("/", "⁄")  # not a slash, which would mean a folder
        for kind in ("images", "masks"):
            (base / kind / f"{rows[1][0]}.png").rename(base / kind / f"{hostile}.png")
        rows[1][0] = hostile
        with (base / "labels.csv").open("w", newline="") as file:
            csv.writer(file).writerows(rows)
    store = ArtifactStore(folder / "store")
    return [
        run_plan(make_plan(recipe, str(config), store, overrides))
        for recipe, overrides in (
            ("cam_crf", ()),
            ("cam_crf", ("pseudo_masks.levels=[0.8]",)),
            ("full_supervision", ()),
        )
    ]


@pytest.fixture
def copied_runs(runs, tmp_path) -> Runs:
    """A copy of the runs and their data set, for tests that change files: other test processes read the original."""
    original, copy = runs.config.parent, tmp_path / "report"
    shutil.copytree(original, copy)
    for path in (copy / "store" / "runs").glob("*.json"):
        path.write_text(path.read_text().replace(str(original), str(copy)))
    return runs._replace(store=ArtifactStore(copy / "store"), config=copy / runs.config.name)


def report_of(
    runs: Runs, run: str = "", *, truth: bool = True, steps: tuple[str, ...] = (), **changes: Any
) -> RunReport:
    """Return the report of a run, or of what the run would have been.

    Args:
        runs: the finished runs.
        run: id; by default the weakly supervised run.
        truth: False: as if the data set had no masks.
        steps: the steps that the recipe has; by default all.
        changes: values of the record; ``missing`` names the steps that did not finish.
    """
    run_id, record = find_run(runs.store, run or runs.weak)
    missing = changes.pop("missing", ())
    record = {**record, **changes, "steps": {n: s for n, s in record["steps"].items() if not steps or n in steps}}
    for name in missing:
        record["steps"][name] = {**record["steps"][name], "key": "f" * 64}
    if not truth:
        data = dict(record["config"]["data"])
        for split in ("train", "val"):
            data[split] = {key: value for key, value in data[split].items() if key != "masks"}
        record["config"] = {**record["config"], "data": data}
        record["steps"] = {n: s for n, s in record["steps"].items() if s["stage"] != "evaluate_masks"}
    return gather(runs.store, run_id, record)
