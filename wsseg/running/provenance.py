"""What an artifact was made with: package versions, commit, device, time."""

import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from wsseg import processes
from wsseg.models.device import resolve_device

_PACKAGES = ("wsseg", "torch", "torchvision", "timm", "segmentation-models-pytorch", "numpy", "albumentations",
             "opencv-python-headless", "pillow", "numba", "accelerate")  # fmt: skip


def made_with(config: Any, distributed: bool) -> dict[str, Any]:
    """Return what a result was made with: recorded, never hashed."""
    packages = {}
    for name in _PACKAGES:
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            continue
    made: dict[str, Any] = {"python": platform.python_version(), "system": platform.platform(), "packages": packages}
    made["commit"] = commit()
    if "torch" in sys.modules and hasattr(config, "device"):
        made["processes"] = processes.count() if distributed else 1
        made["device"], made["threads"] = str(resolve_device(config.device)), sys.modules["torch"].get_num_threads()
        made["precision"] = config.precision
    if sys.platform != "win32":
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        made["peak_memory_mib"] = round(peak / (2**20 if sys.platform == "darwin" else 2**10))
    return made


def commit() -> str | None:
    """Return the commit of the checkout that wsseg runs from, or None in an installed package."""
    folder = Path(__file__).parents[2]
    if not (folder / ".git").exists():
        return None
    try:
        done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, timeout=5)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
