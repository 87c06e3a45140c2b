"""Same seed, same machine: the same bytes, whatever the number of workers, in a new store and in an old one."""

import shutil
from pathlib import Path
from typing import Any

from tortures.children import Child, digests, run_words, write_config, wsseg

PATIENCE = 300.0


def torment(count: int, folder: Path) -> dict[str, Any]:
    """Run the whole tiny pipeline `count` times, with one worker and two by turns, and compare every file."""
    shutil.rmtree(folder, ignore_errors=True)
    failures: list[str] = []
    found = []
    for number in range(count):
        config, store = write_config(folder, workers=1 + number % 2), folder / f"store_{number}"
        child = Child(wsseg(run_words(config, store)), folder / "run.log")
        if (code := child.wait(PATIENCE)) != 0:
            failures.append(f"run {number} ended with {code}: {child.said[-300:]}")
        found.append(digests(store))
    files = sum(len(names) for names in found[0].values())
    for number, other in enumerate(found):
        if other != found[0]:
            keys = [key[:8] for key in found[0] if other.get(key) != found[0][key]]
            failures.append(f"run {number} differs in {', '.join(keys)}")
    return {"runs": count, "artifacts": len(found[0]), "files_compared": files, "failures": failures}
