"""The environment that an artifact was made in: package versions, commit, device, time."""

import platform
import subprocess
import sys
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from wsseg import processes
from wsseg.models.device import resolve_device

_PACKAGES = ("wsseg", "torch", "torchvision", "timm", "segmentation-models-pytorch", "numpy", "albumentations",
             "opencv-python-headless", "pillow", "numba", "scikit-image", "accelerate", "transformers")  # fmt: skip


def package_versions() -> dict[str, str]:
    """Return the versions of wsseg and of the packages that its results depend on; missing packages are left out."""
    versions = {}
    for name in _PACKAGES:
        with suppress(PackageNotFoundError):
            versions[name] = version(name)
    return versions


def made_with(config: Any, distributed: bool) -> dict[str, Any]:
    """Return the environment of a result. It is recorded in the manifest and never hashed.

    Args:
        config: the stage's values; a ``device`` in it is resolved.
        distributed: whether all processes of the launcher ran the stage.
    """
    made: dict[str, Any] = {
        "python": platform.python_version(),
        "system": platform.platform(),
        "packages": package_versions(),
        "commit": commit(),
    }
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
    """Return the commit of the checkout that wsseg runs from, or None for an installed package."""
    folder = Path(__file__).parents[2]
    if not (folder / ".git").exists():
        return None
    try:
        git = subprocess.run(["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, timeout=5)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return git.stdout.strip() or None
