"""Check that wsseg works on a device: every stage, equal bytes, memory that runs out, float16, results like a CPU's.

python scripts/check_device.py            the first accelerator, or the CPU if there is none
python scripts/check_device.py cuda       also mps, cpu

It runs `tests/models/test_devices.py`, which says what is promised, on generated images; it takes about a minute.
"""

import os
import sys
from pathlib import Path

import click
import pytest
import torch

from wsseg.cli.options import Command
from wsseg.models.device import resolve_device, resolve_precision

REPOSITORY = Path(__file__).resolve().parents[1]


@click.command(cls=Command)
@click.argument("device", type=click.Choice(["auto", "cpu", "cuda", "mps"]), default="auto")
def check(device: str) -> None:
    """Run the device tests on DEVICE; the exit code is 1 if one fails."""
    found = resolve_device(device)  # type: ignore[arg-type]
    name = torch.cuda.get_device_name(found) if found.type == "cuda" else ""
    precision = resolve_precision("auto", found) or torch.float32
    click.echo(
        f"device: {found.type} {name}\ntorch: {torch.__version__}\nprecision auto: {precision}".replace(" \n", "\n")
    )
    os.environ["WSSEG_TEST_DEVICE"] = found.type
    os.chdir(REPOSITORY)
    sys.exit(int(pytest.main(["-q", "--durations=0", "-p", "no:cacheprovider", "tests/models/test_devices.py"]) != 0))


if __name__ == "__main__":
    check()
