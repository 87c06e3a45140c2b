"""What wsseg survives, in figures: kills, disks, rot, hostile inputs, odd names, company, load, odd surroundings, and
the same bytes again.

python scripts/torture.py --json torture.json
python scripts/torture.py kills rot --count 50

Each stress prints its figures and what failed; the exit code is 1 where anything did. Without --count it takes an hour or two on two cores,
and the load of a million items most of it. It forks, so it needs Linux or macOS; the small file system needs root, and is
skipped where it cannot be mounted.
"""

import importlib
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported: processes beside each other must not spin

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # nothing asks for newer versions

import click
from tortures.children import warm_up

from wsseg.cli import common, overwrite_option
from wsseg.outputs import Outputs

# how often, in a full run
PARTS = {
    "names": 1, "texts": 3_000, "inputs": 5_000, "rot": 2_000, "outputs": 2_000, "determinism": 4, "disk": 1_000, "together": 8, "kills": 200,
    "environment": 12, "load": 1_000_000,
}  # fmt: skip


@click.command(help=__doc__)
@click.argument("stresss", nargs=-1, type=click.Choice(list(PARTS)))
@click.option("--count", type=click.IntRange(2), help="How often, for each stress; a full run's number without it.")
@click.option(
    "--json", "target", type=click.Path(dir_okay=False, path_type=Path), help="Where the figures are written."
)
@overwrite_option
@common
def main(stresss: tuple[str, ...], count: int | None, target: Path | None, overwrite: bool) -> None:
    """Stress, print, write."""
    outputs = Outputs(None, overwrite=overwrite)
    outputs.check([target] if target else [])
    warm_up()
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="wsseg-torture-") as folder:
        for name in stresss or PARTS:
            begin = time.monotonic()
            figures = importlib.import_module(f"tortures.{name}").stress(count or PARTS[name], Path(folder) / name)
            found[name] = {**figures, "seconds": round(time.monotonic() - begin, 1)}
            click.echo(f"{name}: {json.dumps(found[name])}")
            if target is not None:
                outputs.write(target, (json.dumps(found, indent=1) + "\n").encode())
    failures = sum(len(figures["failures"]) for figures in found.values())
    click.echo(f"{len(found)} stresss, {failures} failures")
    if failures:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
