"""Outputs at every place that a person may name, through links and dots, beside the user's files, and killed midway."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as PILImage

from tests.stress.children import Child
from wsseg.data.photographs import photograph_files
from wsseg.errors import WssegError
from wsseg.outputs import Outputs
from wsseg.store.files import TEMPORARY
from wsseg.store.objects import ArtifactStore

INPUTS = ["photos", "photos/deep", "photos/a.png", "link", "mine/../photos", "mine", ".", "linked"]
FOLDERS = [
    ".", "photos", "photos/deep", "photos/new", "photos/.hidden", "photos/out", "link", "link/new", "mine", "mine/in", "mine/in/new",
    "photos/../out", "out", "out/../photos", "new/deep", "loop/x", "mine/x.png", "linked", "store/objects/x", "store/runs", "photos/mask.png",
]  # fmt: skip
NAMES = ["README.md", "photos.toml", "labels.csv", "x.png", "a.PNG", "in", "report.html", "network.onnx"]
MINE = b"the user's"


def lay_out(root: Path) -> None:
    """Write photographs, the user's files, and links between their folders."""
    for name in ("photos/a.png", "photos/deep/b.png", "mine/x.png", "elsewhere/c.png"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        PILImage.new("RGB", (8, 8), (200, 60, 40)).save(root / name)
    for name in ("README.md", "photos.toml", "mine/a.png", "photos/labels.csv", "mine/b.png"):
        (root / name).write_bytes(MINE)
    (root / "linked").mkdir()
    for link, target in (
        ("link", "photos"), ("mine/in", "../photos/deep"), ("photos/out", "../mine"), ("loop", "loop"),
        ("photos/c.png", "../elsewhere/c.png"), ("linked/a.png", "../photos/a.png"),
    ):  # fmt: skip
        (root / link).symlink_to(target)
    (root / "mine/d.png").hardlink_to(root / "photos/a.png")


def contents(root: Path) -> dict[str, bytes]:
    """Return all files by name; links are not followed."""
    paths = (p for p in root.rglob("*") if p.is_file() and not p.is_symlink())
    return {
        p.relative_to(root).as_posix(): p.read_bytes() for p in paths if "store" not in p.relative_to(root).parts[:1]
    }


def what_is_read(images: Path) -> dict[str, bytes]:
    """Return what a command reads of its input; nothing if it refuses it."""
    try:
        return {item_id: path.read_bytes() for item_id, path in photograph_files(images).items()}
    except WssegError:
        return {}


def over_places(count: int, folder: Path, rng: np.random.Generator) -> dict[str, Any]:
    """Write into random places; the input must be read as before, and the user's files stay unless `--overwrite` is given."""
    failures: list[str] = []
    verdicts = {"written": 0, "refused": 0}
    for number in range(count):
        root = folder / "tree"
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir(parents=True)
        lay_out(root)
        ArtifactStore(root / "store")
        images, output = root / str(rng.choice(INPUTS)), root / str(rng.choice(FOLDERS))
        overwrite = bool(rng.integers(2))
        what = (
            f"{number}: {images.relative_to(root)} -> {output.relative_to(root)}{' --overwrite' if overwrite else ''}"
        )
        before, owned = what_is_read(images), contents(root)
        files = photograph_files(images)
        targets = [output / f"{item_id}.png" for item_id in files]
        targets = [output / str(rng.choice(NAMES))] if rng.integers(3) == 0 else targets
        try:
            for data in (b"mask", b"another mask"):  # the second command replaces what the first has written
                outputs = Outputs([images, *files.values()], overwrite)
                outputs.check(targets)
                for target in targets:
                    outputs.write(target, data)
            verdicts["written"] += 1
        except WssegError as error:
            verdicts["refused"] += 1
            if "\n" in str(error):
                failures.append(f"{what}: not one line: {error}")
            if contents(root) != owned:
                failures.append(f"{what}: was refused, and something was written")
        except Exception as error:  # noqa: BLE001 (that is what is looked for)
            failures.append(f"{what}: {type(error).__name__}: {error}")
        if what_is_read(images) != before:
            failures.append(f"{what}: the input is no longer what it was")
        after = contents(root)
        if not overwrite and any(after.get(name) != data for name, data in owned.items()):
            failures.append(f"{what}: a file of the user's was replaced")
    return {"places": count, **verdicts, "failures": failures}


def write_for_ever(target: Path) -> None:
    """Write one file again and again."""
    for number in range(1_000_000):
        Outputs().write(target, bytes([number % 256]) * 100_000)


def over_kills(count: int, folder: Path, rng: np.random.Generator) -> dict[str, Any]:
    """Kill a process that writes one file; the file is complete, and still recorded as written by wsseg."""
    folder.mkdir(parents=True, exist_ok=True)
    target, failures = folder / "x.bin", []
    for number in range(count):
        child = Child(lambda: write_for_ever(target), folder / "child.log")
        if (code := child.wait(float(rng.uniform(0.01, 0.2)))) is not None:
            failures.append(f"kill {number}: the process ended by itself with {code}: {child.output[-300:]}")
            continue
        child.kill(with_workers=True)
        failures += [f"kill {number}: {wrong}" for wrong in after_a_kill(folder, target)]
    return {"kills": count, "failures": failures}


def after_a_kill(folder: Path, target: Path) -> Iterator[str]:
    """Yield what is wrong with the file that a killed process wrote."""
    if target.exists():
        data = target.read_bytes()
        if len(data) != 100_000 or len(set(data)) != 1:
            yield "the file is half-written"
        try:
            Outputs().check([target])
        except WssegError as error:
            yield f"the file is not recorded as written by wsseg: {error}"
    for path in folder.glob(f"{TEMPORARY}*"):
        path.unlink()


def stress(count: int, folder: Path) -> dict[str, Any]:
    """Name `count` places, and kill a tenth as often."""
    shutil.rmtree(folder, ignore_errors=True)
    rng = np.random.default_rng(0)
    places = over_places(count, folder / "places", rng)
    kills = over_kills(max(2, count // 10), folder / "kills", rng)
    failures = [f for part in (places, kills) for f in part.pop("failures")]
    return {**places, **kills, "failures": failures}
