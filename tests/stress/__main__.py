"""Stress tests of wsseg: kills, full disks, damaged stores, hostile files, odd names, several runs at once, load, odd
surroundings, small limits, and equal bytes.

make stress
python -m tests.stress kills rot --count 50 --json stress.json

Each part prints its metrics and its failures; the exit code is 1 if anything failed. A full run takes one to two hours on
two cores, most of it for the load of a million items. Processes are forked, so Linux or macOS is required. The small file
system requires root, and its part is skipped if it cannot be mounted.
"""

import importlib
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported: processes beside each other must not spin

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # no request for newer versions

import click

from tests.stress.children import warm_up
from wsseg.cli.options import Command, overwrite_option
from wsseg.outputs import Outputs

# repetitions of each part in a full run
PARTS = {
    "names": 1, "texts": 3_000, "inputs": 5_000, "rot": 2_000, "outputs": 2_000, "determinism": 4, "disk": 1_000, "together": 8, "kills": 200,
    "surroundings": 12, "limits": 12, "load": 1_000_000,
}  # fmt: skip


@click.command(cls=Command, help=__doc__)
@click.argument("parts", nargs=-1, type=click.Choice(list(PARTS)))
@click.option("--count", type=click.IntRange(1), help="Repetitions of each part; by default those of a full run.")
@click.option("--json", "target", type=click.Path(dir_okay=False, path_type=Path), help="File for the metrics.")
@overwrite_option
def main(parts: tuple[str, ...], count: int | None, target: Path | None, overwrite: bool) -> None:
    """Run the parts, print and write their metrics."""
    outputs = Outputs(overwrite=overwrite)
    outputs.check([target] if target else [])
    warm_up()
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="wsseg-stress-") as folder:
        for name in parts or PARTS:
            start = time.monotonic()
            metrics = importlib.import_module(f"tests.stress.{name}").stress(count or PARTS[name], Path(folder) / name)
            results[name] = {**metrics, "seconds": round(time.monotonic() - start, 1)}
            click.echo(f"{name}: {json.dumps(results[name])}")
            if target is not None:
                outputs.write(target, (json.dumps(results, indent=1) + "\n").encode())
    failures = sum(len(metrics["failures"]) for metrics in results.values())
    click.echo(f"{len(results)} parts, {failures} failures")
    if failures:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
