"""Same seed, same machine: the same bytes, whatever the number of workers, the spelling of values, and the validation images."""

import shutil
from pathlib import Path
from typing import Any

from tests.stress.children import Child, digests, run_words, write_config, wsseg

PATIENCE = 300.0
SPELLINGS = ("seeds.output_stride=16", "seeds.output_stride=16.0")  # one value
NEED_VAL = 3  # artifacts of the recipe: what measures the classifier, predictions, and what measures those


def stress(count: int, folder: Path) -> dict[str, Any]:
    """Run the whole tiny pipeline `count` times and once without validation images; compare every file.

    The runs take one worker and two, and write a value as 16 and as 16.0, by turns.
    """
    shutil.rmtree(folder, ignore_errors=True)
    failures: list[str] = []
    stores = []
    for number in range(count):
        config = write_config(folder, workers=1 + number % 2)
        stores.append(_run(config, folder / f"store_{number}", SPELLINGS[number % 2], failures))
    files = sum(len(names) for names in stores[0].values())
    for number, other in enumerate(stores):
        if other != stores[0]:
            keys = [key[:8] for key in stores[0] if other.get(key) != stores[0][key]]
            failures.append(f"run {number} differs in {', '.join(keys)}")
    config = folder / "without_val.toml"
    lines = write_config(folder).read_text().splitlines()
    config.write_text("\n".join(line for line in lines if not line.startswith("val = ")))
    alone = _run(config, folder / "store_without_val", SPELLINGS[0], failures)
    if differing := [key[:8] for key in alone if alone[key] != stores[0].get(key)]:
        failures.append(f"without validation images these differ: {', '.join(differing)}")
    if len(stores[0].keys() - alone.keys()) != NEED_VAL:
        failures.append(f"without validation images there are {len(alone)} artifacts of {len(stores[0])}")
    return {"runs": count + 1, "artifacts": len(stores[0]), "files_compared": files, "failures": failures}


def _run(config: Path, store: Path, override: str, failures: list[str]) -> dict[str, Any]:
    """Run the pipeline; return the digests of the store's artifacts by key."""
    child = Child(wsseg([*run_words(config, store), "--set", override]), store.parent / "run.log")
    if (code := child.wait(PATIENCE)) != 0:
        failures.append(f"{store.name} ended with {code}: {child.output[-300:]}")
    return digests(store)
