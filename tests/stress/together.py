"""Several processes on one store: the same and different recipes, with kills and `gc` beside them."""

import json
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np

from tests.stress.children import Child, digests, inconsistencies, run_words, write_config, wsseg

PATIENCE = 300.0
RECIPES = ("best", "cam_crf", "full_supervision", "best")


def stress(processes: int, folder: Path) -> dict[str, Any]:
    """Run up to `processes` at once, 2, 4, 8 ..., kill half of them midway, let all finish, compare bytes and work done."""
    shutil.rmtree(folder, ignore_errors=True)
    rng = np.random.default_rng(0)
    config = write_config(folder)
    failures: list[str] = []
    for recipe in dict.fromkeys(RECIPES):
        child = Child(wsseg(run_words(config, folder / "clean", recipe)), folder / "clean.log")
        if (code := child.wait(PATIENCE)) != 0:
            failures.append(f"{recipe} alone ended with {code}: {child.output[-300:]}")
    expected = digests(folder / "clean")
    figures: dict[str, Any] = {}
    count = 2
    while count <= processes:
        store = folder / f"store_{count}"
        begin = time.monotonic()
        words = [[*run_words(config, store, RECIPES[i % len(RECIPES)]), "--json"] for i in range(count)]
        running = [Child(wsseg(w), folder / f"{count}_{i}.log") for i, w in enumerate(words)]
        kills = 0
        for index in range(0, count, 2):
            if running[index].wait(float(rng.uniform(0.5, 4))) is None:
                running[index].kill(with_workers=True)
                kills += 1
                running[index] = Child(wsseg(words[index]), folder / f"{count}_{index}.log")
            sweep = Child(wsseg(["gc", "--delete", "--store", str(store)]), folder / f"gc_{count}.log")
            if (code := sweep.wait(PATIENCE)) != 0:
                failures.append(f"gc beside {count} runs ended with {code}: {sweep.output[-300:]}")
        made: dict[str, int] = {}
        for child in running:
            if (code := child.wait(PATIENCE)) != 0:
                failures.append(f"one of {count} runs ended with {code}: {child.output[-300:]}")
                if code is None:
                    child.kill(with_workers=True)
                continue
            output = child.output
            for stage in json.loads(output[output.index("\n{") if not output.startswith("{") else 0 :])[
                "stages"
            ].values():
                made[stage["key"]] = made.get(stage["key"], 0) + (stage["status"] == "ran")
        twice = sum(times > 1 for times in made.values())
        if digests(store) != {key: expected[key] for key in made}:
            failures.append(f"{count} processes: artifacts differ from those made alone")
        if twice:
            failures.append(f"{count} processes: {twice} artifacts were made twice")
        failures += inconsistencies(store)
        seconds = round(time.monotonic() - begin, 1)
        figures[str(count)] = {"kills": kills, "artifacts": len(made), "made_twice": twice, "seconds": seconds}
        count *= 2
    return {"processes": figures, "failures": failures}
