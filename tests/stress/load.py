"""A stage of very many tiny items through store and runner: memory, time per item, and the time to find it finished."""

import resource
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.stress.children import Child
from wsseg.config import setting
from wsseg.progress import track
from wsseg.stages import STAGES, TABLES
from wsseg.stages.layout import mask_path
from wsseg.stages.protocol import Role
from wsseg.store.files import atomic_write
from wsseg.store.objects import ArtifactStore

_SMALLEST = 10_000


@dataclass(frozen=True)
class ToyConfig:
    """Args:
    items: how many files are written.
    """

    items: int = setting(1, low=1)


class MakeItems:
    """A stage without inputs that writes one small file per item, as far as they are missing."""

    name = "make_items"
    table = "items"
    version = 1
    Config = ToyConfig
    inputs: Mapping[str, Role] = {}
    output = "pseudo_masks"
    distributed = False
    measures = False

    def check(self, config, inputs):
        pass

    def run(self, config: ToyConfig, inputs: Mapping[str, Any], out: Path) -> dict[str, Any]:
        """Write masks/<hundred>/<id>.png."""
        for number in track(range(config.items), config.items, "items"):
            path = mask_path(out, f"{number // 1000:04d}/{number:07d}")
            if not path.is_file():
                atomic_write(path, path.stem.encode())
        return {"images": config.items}


def one_run(items: int, folder: Path) -> None:
    """Run the toy recipe over `items`, in a process of its own; leave state, seconds and MiB in the file ``figures``."""
    from wsseg.running.execute import run_plan
    from wsseg.running.plan import make_plan

    STAGES["make_items"], TABLES["items"] = MakeItems(), ToyConfig  # type: ignore[assignment]
    (folder / "toy.toml").write_text('[steps.items]\nstage = "make_items"\n')
    values = f'[data]\nkind = "demo"\ntrain = {{ images = 1 }}\n[items]\nitems = {items}\n'
    (folder / "values.toml").write_text(values)
    begin = time.monotonic()
    plan = make_plan(str(folder / "toy.toml"), str(folder / "values.toml"), ArtifactStore(folder / "store"))
    run_plan(plan)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    (folder / "figures").write_text(f"{plan.steps[0].state} {time.monotonic() - begin} {peak}")


def measured(items: int, folder: Path) -> tuple[str, float, float]:
    """Return (state, seconds, peak MiB) of one run."""
    child = Child(lambda: one_run(items, folder), folder / "run.log")
    code = child.wait(7200)
    if code != 0:
        return f"ended with {code}: {child.output[-300:]}", 0.0, 0.0
    state, seconds, peak = (folder / "figures").read_text().split()
    return state, float(seconds), float(peak)


def stress(count: int, folder: Path) -> dict[str, Any]:
    """Run with 10 thousand items and `count`; then again, finished."""
    failures: list[str] = []
    figures: dict[str, Any] = {}
    for items in sorted({min(_SMALLEST, count), count}):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        first, made_in, peak = measured(items, folder)
        again, found_in, _ = measured(items, folder)
        if (first, again) != ("ran", "cached"):
            failures.append(f"{items} items: {first}, then {again}")
        figures[str(items)] = {
            "microseconds_an_item": round(1e6 * made_in / items, 1),
            "finished_found_in_seconds": round(found_in, 2),
            "peak_mib": round(peak),
        }
    shutil.rmtree(folder, ignore_errors=True)
    if figures[str(count)]["finished_found_in_seconds"] > 30:
        failures.append("it took more than 30 s to find the stage finished")
    return {"items": figures, "failures": failures}
