"""Compare the dense CRF with pydensecrf: speed, agreement and scaling, measured in one run.

python scripts/bench_crf.py --json crf.json              the table in docs/benchmarks.md
python scripts/bench_crf.py --images 6 --no-scaling      a quick look

Photographs are from PASCAL VOC vehicles, NEU-Seg (WSSEG_DATA, or ../shared/data beside the project) and scikit-image, all
at 500 x 375 px. Scores are similar to seeds: a mask, or random blobs if there is no mask, is reduced to 1/32 of the size
with noise and enlarged again; 2 to 5 labels. Each measurement uses one thread, except that of two processes.
"""

# ruff: noqa: E402
import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import json
import multiprocessing
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import click
import cv2
import numpy as np
import skimage.data
from numpy.typing import NDArray

from wsseg.cli.options import Command, overwrite_option
from wsseg.crf.dense_crf import DenseCrf
from wsseg.crf.settings import PRESETS, CrfSettings
from wsseg.data.masks import decode_mask
from wsseg.data.reading import read_image
from wsseg.outputs import Outputs
from wsseg.types import Image, Scores

WIDTH, HEIGHT = 500, 375
SHIPPED = ("astronaut", "coffee", "chelsea", "rocket", "immunohistochemistry", "retina")
Work = tuple[str, Image, Scores]


def data_folder() -> Path:
    """Return the folder of the photographs."""
    return Path(os.environ.get("WSSEG_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))


def evenly(paths: list[Path], count: int) -> list[Path]:
    """Return `count` of the paths, evenly spaced."""
    return [paths[len(paths) * i // count] for i in range(min(count, len(paths)))]


def photographs(count: int) -> Iterator[Work]:
    """Yield (name, image, scores) of about `count` photographs, three fifths of them from VOC."""
    voc = data_folder() / "voc-vehicles" / "VOC2012"
    neu = data_folder() / "neu-seg" / "train"
    sources = [
        *(("voc", p, voc / "JPEGImages", "*.jpg") for p in evenly(sorted((voc / "SegmentationClassAug").glob("*.png")), 3 * count // 5)),
        *(("neu", p, neu / "images", "*") for p in evenly(sorted((neu / "masks").glob("*.png")), count // 5)),
    ]  # fmt: skip
    for index, (name, mask_path, folder, pattern) in enumerate(sources):
        image_path = next(folder.glob(mask_path.stem + pattern[1:] if pattern != "*" else mask_path.stem + ".*"))
        mask = cv2.resize(decode_mask(mask_path.read_bytes()), (WIDTH, HEIGHT), interpolation=cv2.INTER_NEAREST_EXACT)
        yield f"{name} {mask_path.stem}", sized(read_image(image_path)), seed_like(mask, 2 + index % 4, index)
    for index, name in enumerate(SHIPPED[: count - len(sources)]):
        blobs = np.random.default_rng(index).standard_normal((5, 4, 5)).astype(np.float32)
        large = np.stack([cv2.resize(b, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC) for b in blobs])
        image = sized(getattr(skimage.data, name)()[..., :3])
        yield f"skimage {name}", image, seed_like(large.argmax(0).astype(np.uint8), 2 + index % 4, index)


def sized(image: Image) -> Image:
    """Return an image at 500 x 375."""
    return np.asarray(cv2.resize(image, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA))


def seed_like(mask: NDArray[np.uint8], labels: int, rng_seed: int) -> Scores:
    """Return (labels, H, W) scores: the mask's `labels` most frequent ids, at the resolution of a seed with stride 32, with noise."""
    ids = np.bincount(mask[mask != 255], minlength=labels).argsort(kind="stable")[::-1][:labels]
    planes = [(mask == value).astype(np.float32) for value in ids]
    size = (WIDTH // 32, HEIGHT // 32)
    small = np.stack([cv2.resize(p, size, interpolation=cv2.INTER_AREA) for p in planes])
    small = 0.75 * small + 0.1 + 0.15 * np.random.default_rng(rng_seed).random(small.shape)
    scores = np.stack(
        [cv2.resize(s, (WIDTH, HEIGHT), interpolation=cv2.INTER_LINEAR) for s in small.astype(np.float32)]
    )
    return np.asarray(scores / scores.sum(0), dtype=np.float32)


def timed(function: Callable[[], Scores]) -> tuple[float, Scores]:
    """Return the seconds and the result of a function."""
    start = time.perf_counter()
    result = function()
    return time.perf_counter() - start, result


def refined(image: Image, scores: Scores, settings: CrfSettings, mode: str) -> Scores:
    """Refine scores once, including set-up; `mode` is reference, exact or default."""
    engine = "reference" if mode == "reference" else "numba"
    return DenseCrf(image, settings, engine, exact=mode != "default").refine(scores)  # type: ignore[arg-type]


def compare(works: list[Work], presets: tuple[str, ...]) -> list[dict[str, float | str]]:
    """Return one row per photograph and preset."""
    for mode in ("reference", "exact", "default"):  # compile, or load the cached code
        for labels in sorted({len(w[2]) for w in works}):
            image, scores = next((i, s) for _, i, s in works if len(s) == labels)
            refined(image[:80, :90].copy(), scores[:, :80, :90].copy(), PRESETS[presets[0]], mode)
    rows = []
    for name, image, scores in works:
        for preset in presets:
            settings = PRESETS[preset]
            times: dict[str, list[float]] = {"reference": [], "exact": [], "default": []}
            results = {}
            for _ in range(3):
                for mode, seconds in times.items():
                    took, results[mode] = timed(partial(refined, image, scores, settings, mode))
                    seconds.append(took)
            best = {mode: statistics.median(seconds) for mode, seconds in times.items()}
            reference, labels = results["reference"], results["reference"].argmax(0)
            rows.append({
                "image": name, "preset": preset, "labels": len(scores), "reference_seconds": best["reference"],
                "exact_speedup": best["reference"] / best["exact"],
                "exact_difference": float(np.abs(results["exact"] - reference).max()),
                "exact_agreement": float((results["exact"].argmax(0) == labels).mean()),
                "default_speedup": best["reference"] / best["default"],
                "default_agreement": float((results["default"].argmax(0) == labels).mean()),
            })  # fmt: skip
            click.echo(
                f"{name:28} {preset:8} {len(scores)} labels: reference {best['reference']:6.3f} s, "
                f"exact {rows[-1]['exact_speedup']:5.1f}x {rows[-1]['exact_difference']:.1e} "
                f"{rows[-1]['exact_agreement']:.5f}, default {rows[-1]['default_speedup']:5.1f}x "
                f"{rows[-1]['default_agreement']:.5f}",
                err=True,
            )
    return rows


def summary(rows: list[dict[str, float | str]]) -> dict[str, dict[str, float]]:
    """Return medians and worst values."""

    def median(key: str) -> float:
        return statistics.median(float(row[key]) for row in rows)

    def worst(key: str, choose: Callable[..., float]) -> float:
        return choose(float(row[key]) for row in rows)

    return {
        "exact": {
            "speedup": median("exact_speedup"), "max_abs_diff": median("exact_difference"),
            "label_agreement": median("exact_agreement"), "worst_speedup": worst("exact_speedup", min),
            "worst_max_abs_diff": worst("exact_difference", max),
            "worst_label_agreement": worst("exact_agreement", min),
        },
        "default": {
            "speedup": median("default_speedup"), "label_agreement": median("default_agreement"),
            "worst_speedup": worst("default_speedup", min),
            "worst_label_agreement": worst("default_agreement", min),
        },
    }  # fmt: skip


_works: list[Work] = []  # in a worker process: sent once, not with every job


def _hold(works: list[Work]) -> None:
    _works.extend(works)


def many(numbers: range) -> float:
    """Refine the photographs with these indices with the preset irn; runs in a worker process."""
    return sum(float(refined(*_works[n][1:], PRESETS["irn"], "default")[0, 0, 0]) for n in numbers)


def two_processes(works: list[Work]) -> float:
    """Return the speedup of two processes over one: the median of seven alternating measurements."""
    context = multiprocessing.get_context("spawn")
    count = len(works)
    singles = [range(n, n + 1) for n in range(count)]
    ratios = []
    with context.Pool(2, initializer=_hold, initargs=(works,)) as pool:
        pool.map(many, [range(count)] * 4, chunksize=1)  # start, import, compile
        for _ in range(7):
            start = time.perf_counter()
            pool.apply(many, (range(count),))
            one = time.perf_counter() - start
            start = time.perf_counter()
            pool.map(many, singles, chunksize=1)
            ratios.append(one / (time.perf_counter() - start))
    return statistics.median(ratios)


def _measure_size(
    megapixels: float, labels: int, mode: str, queue: "multiprocessing.Queue[tuple[float, float]]"
) -> None:
    base = sized(skimage.data.astronaut())
    height = round((megapixels * 1e6 * 0.75) ** 0.5)
    size = (round(height / 0.75), height)
    image = np.asarray(cv2.resize(base, size, interpolation=cv2.INTER_CUBIC))
    small = np.random.default_rng(0).random((labels, 12, 16)).astype(np.float32)
    scores = np.stack([cv2.resize(s, size, interpolation=cv2.INTER_LINEAR) for s in small])
    scores /= scores.sum(0)
    refined(image[:80, :90].copy(), scores[:, :80, :90].copy(), PRESETS["psa"], mode)
    took, _ = timed(lambda: refined(image, scores, PRESETS["psa"], mode))
    queue.put((took, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20))


def scaling(modes: tuple[str, ...] = ("exact", "default")) -> list[dict[str, float | str]]:
    """Return seconds and peak memory of a new process for several sizes and numbers of labels."""
    context = multiprocessing.get_context("spawn")
    rows: list[dict[str, float | str]] = []
    cases = [(mp, 2) for mp in (0.04, 0.16, 0.64, 2.56, 16.0)] + [(0.1875, c) for c in (2, 4, 8, 16, 32, 64)]
    for mode in modes:
        for megapixels, labels in cases:
            queue = context.Queue()
            process = context.Process(target=_measure_size, args=(megapixels, labels, mode, queue))
            process.start()
            seconds, gibibytes = queue.get(timeout=900)
            process.join()
            rows.append({
                "mode": mode, "megapixels": megapixels, "labels": labels, "seconds": seconds, "peak_gib": gibibytes,
                "microseconds_a_pixel_and_label": seconds / megapixels / labels,
            })  # fmt: skip
            click.echo(
                f"{mode:8} {megapixels:7.2f} MP {labels:3} labels: {seconds:7.2f} s, {gibibytes:.2f} GiB, "
                f"{seconds / megapixels / labels:.3f} us per pixel and label",
                err=True,
            )
    return rows


@click.command(cls=Command, help=__doc__)
@click.option("--json", "target", type=click.Path(dir_okay=False, path_type=Path), help="File for the measurements.")
@click.option("--images", default=30, show_default=True, help="Number of photographs.")
@click.option("--presets", default="irn,psa", show_default=True, help="Presets, separated by commas.")
@click.option(
    "--scaling/--no-scaling",
    "with_scaling",
    default=True,
    help="Also measure 0.04 to 16 megapixels and 2 to 64 labels.",
)
@overwrite_option
def main(target: Path | None, images: int, presets: str, with_scaling: bool, overwrite: bool) -> None:
    """Measure, print and write the results."""
    outputs = Outputs(overwrite=overwrite)
    outputs.check([target] if target else [])
    works = list(photographs(images))
    result: dict[str, object] = dict(summary(compare(works, tuple(presets.split(",")))))
    result["two_process_scaling"] = two_processes(works)
    result["machine"] = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    result["images"] = len(works)
    if with_scaling:
        result["scaling"] = scaling()
    for mode in ("exact", "default"):
        click.echo(f"{mode:8} " + ", ".join(f"{k} {v:.6g}" for k, v in result[mode].items()))  # type: ignore[attr-defined]
    click.echo(f"two processes: {result['two_process_scaling']:.2f}x one")
    if target is not None:
        outputs.write(target, (json.dumps(result, indent=2) + "\n").encode())


if __name__ == "__main__":
    sys.exit(main())
