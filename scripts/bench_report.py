"""Measure how long a browser takes to load the page of a large run.

python scripts/bench_report.py --images 10000

The run is synthetic: photographs of noise with blobs as masks, four classes, random scores, and as many embedded pictures as a page may
have. Chromium (headless, from the PATH) opens the file several times, each time with an empty profile. Printed are the median wall time until the load
event and until the pictures of the first screen and the first cards are there, and the CPU time of the page's main thread, which
does not depend on other programs.
"""

import hashlib
import shutil
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
from PIL import Image as PILImage

from wsseg.cli.options import Command
from wsseg.data.images import LabeledImages
from wsseg.errors import StageError
from wsseg.labels import ClassMap
from wsseg.metrics.confusion import confusion
from wsseg.report.page import render
from wsseg.report.quality import MaskQuality, scores_of
from wsseg.report.run_report import Layer, RunReport, Split, StepFacts
from wsseg.stages.evaluate_masks.image_counts import ImageCounts
from wsseg.types import LabeledImage, Mask

_CLASSES = ("scratch", "patch", "inclusion", "pit")
_SIZE = 375, 500
_DRAWN = "document.querySelectorAll('.cards button').length > 0 && [...document.querySelectorAll('.cell')].some((c) => c.near) && " \
    "[...document.querySelectorAll('.cell')].every((c) => !c.near || c.querySelector('canvas').width !== 300)"  # fmt: skip


class Blobs:
    """Masks by id: one blob of the image's class."""

    split, classes = "val", ClassMap(_CLASSES)

    def __init__(self, items: tuple[LabeledImage, ...], seed: int) -> None:
        self.key, self.ids = str(seed), [item.id for item in items]
        self._items, self._seed = {item.id: item for item in items}, seed

    def mask(self, item_id: str) -> Mask:
        """Return the (H, W) uint8 mask of an image."""
        item = self._items[item_id]
        rng = np.random.default_rng([self._seed, int(item_id.rsplit("-", 1)[1])])
        mask = np.zeros(item.size, np.uint8)
        centre, radius = rng.integers(100, 300, 2), int(rng.integers(40, 110))
        return np.asarray(cv2.circle(mask, [int(v) for v in centre], radius, item.class_ids[0], -1))


def synthetic_report(count: int, photograph: Path) -> RunReport:
    """Return a report on `count` validation images that show one photograph."""
    names = (f"folder-{k % 100:02}/photograph-{k:06}" for k in range(count))
    sha256 = hashlib.sha256(photograph.read_bytes()).hexdigest()
    items = tuple(LabeledImage(name, photograph, (1 + k % 4,), _SIZE, sha256) for k, name in enumerate(names))
    images = LabeledImages("val", ClassMap(_CLASSES), items, {}, "synthetic")
    truth, masks = Blobs(items, 0), Blobs(items, 1)
    total = np.zeros((5, 6), np.int64)
    measured = []  # of some images; the others repeat them
    for item in items[:400]:
        matrix = confusion(truth.mask(item.id)[::8, ::8], masks.mask(item.id)[::8, ::8], 5)
        total += matrix
        measured.append(ImageCounts.of(item.id, matrix))
    counts = [replace(measured[k % len(measured)], id=item.id) for k, item in enumerate(items)]
    quality = MaskQuality(images.classes, counts, total, {})
    layers = [
        Layer("photograph", "photo"), Layer("predictions", "mask", masks=masks), Layer("truth", "truth", masks=truth)
    ]  # fmt: skip
    split = Split(images, layers, truth, "predictions", quality, scores=scores_of(quality, "predictions"))
    record: dict[str, Any] = {
        "recipe": "best", "config_name": "synthetic", "config_path": "synthetic.toml", "config": {}, "status": "finished",
        "started": "2026-01-01T00:00:00", "steps": {},
    }  # fmt: skip
    steps = [StepFacts("predictions", "predict_masks", "complete", 60.0, 2**20, (), {})]
    return RunReport("synthetic", record, steps, Path("wsseg-store"), {"val": split})


def loading(page: Path, browser: Any) -> dict[str, float]:
    """Return the times of one visit in milliseconds."""
    context = browser.new_context(viewport={"width": 1300, "height": 900})
    tab = context.new_page()
    tab.set_default_timeout(600_000)
    session = context.new_cdp_session(tab)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})
    start = time.perf_counter()
    tab.goto(page.as_uri())
    load = time.perf_counter() - start
    while not tab.evaluate(_DRAWN):
        tab.wait_for_timeout(20)
    drawn = time.perf_counter() - start
    metrics = {m["name"]: m["value"] for m in session.send("Performance.getMetrics")["metrics"]}
    context.close()
    return {
        "until the load event": 1000 * load, "until pictures and cards are drawn": 1000 * drawn,
        "CPU time of the main thread": 1000 * metrics["TaskDuration"],
    }  # fmt: skip


@click.command(cls=Command, help=__doc__)
@click.option("--images", type=click.IntRange(1), default=10_000, show_default=True)
@click.option("--visits", type=click.IntRange(1), default=5, show_default=True)
def main(images: int, visits: int) -> None:
    from playwright.sync_api import sync_playwright

    if (chromium := shutil.which("chromium") or shutil.which("google-chrome")) is None:
        raise StageError("no Chromium in the PATH: apt-get install chromium")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as started:
        photograph = Path(folder) / "photograph.png"
        noise = np.random.default_rng(0).integers(0, 255, (24, 32, 3), np.uint8)
        PILImage.fromarray(noise).resize(_SIZE[::-1], PILImage.Resampling.BICUBIC).save(photograph)
        page = Path(folder) / "report.html"
        page.write_text(render(synthetic_report(images, photograph)), encoding="utf-8")
        click.echo(f"{images} images, page of {page.stat().st_size / 1e6:.1f} MB, median of {visits} visits:")
        browser = started.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-gpu"], timeout=600_000
        )
        times = [loading(page, browser) for _ in range(visits)]
        browser.close()
    for name in times[0]:
        click.echo(f"  {statistics.median(each[name] for each in times):7.0f} ms {name}")


if __name__ == "__main__":
    main()
