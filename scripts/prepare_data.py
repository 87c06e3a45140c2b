"""Download public data sets and arrange them as the shipped configs expect.

    python scripts/prepare_data.py voc12 data        VOC 2012 with SBD's augmented list (2 GB + 1.4 GB)
    python scripts/prepare_data.py coco14 data       COCO 2014 (20 GB)
    python scripts/prepare_data.py oxford_pet data   Oxford-IIIT Pet, cats and dogs (0.8 GB)

Archives are kept in ``DATA/archives`` and checked by digest; one that you put there yourself is not downloaded again,
and a second call does only what is missing. Then, from any folder: ``WSSEG_DATA=DATA wsseg run cam_crf -c voc12``.
"""

import csv
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
from scipy.io import loadmat
from torchvision.datasets.utils import check_md5, download_url

from wsseg.data.masks import encode_mask
from wsseg.data.reading import read_mask_file
from wsseg.errors import DatasetError, WssegError
from wsseg.labels import IGNORE_INDEX
from wsseg.store.files import atomic_write


@dataclass(frozen=True)
class Archive:
    """A file to download, and its MD5 as published (VOC, SBD, Pet: by torchvision; COCO: its server's ETags)."""

    url: str
    md5: str

    @property
    def name(self) -> str:
        return self.url.rsplit("/", 1)[-1]


ARCHIVES = {
    "voc": Archive("https://thor.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar",
                   "6cd6e144f989b92b3379bac3b3de84fd"),
    "sbd": Archive("https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/semantic_contours/benchmark.tgz",
                   "82b4d87ceb2ed10f6038a1cba92111cb"),
    "coco_train": Archive("http://images.cocodataset.org/zips/train2014.zip", "0da8c0bd3d6becc4dcb32757491aca88"),
    "coco_val": Archive("http://images.cocodataset.org/zips/val2014.zip", "a3d79f5ed8d289b7a7554ce06a5782b3"),
    "coco_annotations": Archive("http://images.cocodataset.org/annotations/annotations_trainval2014.zip",
                                "0a379cfc70b0e71301e0f377548639bd"),
    "pet_images": Archive("https://www.robots.ox.ac.uk/~vgg/data/pets/data/images.tar.gz",
                          "5c4f3ee8e5d25df40f4fd59a7f44e54c"),
    "pet_annotations": Archive("https://www.robots.ox.ac.uk/~vgg/data/pets/data/annotations.tar.gz",
                               "95a8c909bbe2e81eed6a22bccdf3f68f"),
}  # fmt: skip


def fetch(archive: Archive, folder: Path) -> Path:
    """Return the path of an archive in `folder`; download it if it is missing.

    Raises:
        DatasetError: the download fails, or the archive does not have the published digest.
    """
    target = folder / archive.name
    if not target.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as partial:  # an interrupted download is not taken for a whole one
            try:
                download_url(archive.url, partial, archive.name)
            except OSError as error:
                raise DatasetError(f"{archive.url}: {error}; download it by other means to {folder}") from error
            Path(partial, archive.name).rename(target)
    if not check_md5(target, archive.md5):
        raise DatasetError(
            f"{target}: its MD5 is not {archive.md5}; delete it and run the command again to download it"
        )
    return target


def extract(archive: Path, target: Path, inner: str) -> None:
    """Unpack the folder `inner` of an archive to `target` atomically; do nothing if `target` exists.

    Raises:
        DatasetError: the archive does not contain the folder.
    """
    if target.is_dir():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as partial:
        click.echo(f"unpacking {archive}")
        options = {} if archive.suffix == ".zip" else {"filter": "data"}  # no links or paths that leave the folder
        shutil.unpack_archive(archive, partial, **options)  # type: ignore[arg-type]
        if not Path(partial, inner).is_dir():
            raise DatasetError(f"{archive}: no folder {inner} in this archive; expected: the published archive")
        Path(partial, inner).rename(target)


def read_list(path: Path) -> list[str]:
    """Return the first word of each line that is not empty."""
    return [line.split()[0] for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def write_list(path: Path, ids: list[str]) -> None:
    """Write one id per line."""
    atomic_write(path, "".join(f"{i}\n" for i in ids).encode())


@click.group(context_settings={"help_option_names": ["-h", "--help"]}, help=__doc__)
def cli() -> None:
    """Show the docstring of the module as help."""


@cli.command()
@click.argument("data", type=click.Path(file_okay=False, path_type=Path))
def voc12(data: Path) -> None:
    """PASCAL VOC 2012 and SBD: 10,582 train images (train_aug) and 1,449 val images."""
    archives = data / "archives"
    root = data / "VOCdevkit" / "VOC2012"
    sbd = data / "sbd"
    extract(fetch(ARCHIVES["voc"], archives), root, "VOCdevkit/VOC2012")
    extract(fetch(ARCHIVES["sbd"], archives), sbd, "benchmark_RELEASE/dataset")
    train, val = (read_list(root / "ImageSets" / "Segmentation" / f"{name}.txt") for name in ("train", "val"))
    theirs = {*read_list(sbd / "train.txt"), *read_list(sbd / "val.txt")}
    masks = root / "SegmentationClassAug"
    with click.progressbar(sorted(theirs - {*train, *val}), label="masks of SBD", file=sys.stderr) as ids:
        for image_id in ids:
            if not (target := masks / f"{image_id}.png").is_file():
                mat = loadmat(sbd / "cls" / f"{image_id}.mat", variable_names=["GTcls"])
                atomic_write(target, encode_mask(mat["GTcls"]["Segmentation"][0, 0].astype(np.uint8)))
    for image_id in (*train, *val):  # VOC's own masks are finer than SBD's
        if not (target := masks / f"{image_id}.png").is_file():
            atomic_write(target, (root / "SegmentationClass" / f"{image_id}.png").read_bytes())
    ids = sorted({*theirs, *train} - set(val))
    write_list(root / "ImageSets" / "Segmentation" / "train_aug.txt", ids)
    finish(f"{len(ids)} train images (published: 10582), {len(val)} val images", data, "voc12")


@cli.command()
@click.argument("data", type=click.Path(file_okay=False, path_type=Path))
def coco14(data: Path) -> None:
    """COCO 2014: 82,783 train images and 40,504 val images with instances."""
    archives = data / "archives"
    extract(fetch(ARCHIVES["coco_annotations"], archives), data / "coco" / "annotations", "annotations")
    for split in ("train", "val"):
        extract(fetch(ARCHIVES[f"coco_{split}"], archives), data / "coco" / f"{split}2014", f"{split}2014")
    counts = [sum(1 for _ in (data / "coco" / f"{split}2014").glob("*.jpg")) for split in ("train", "val")]
    finish(f"{counts[0]} train images (published: 82783), {counts[1]} val images (40504)", data, "coco14")


@cli.command("oxford_pet")
@click.argument("data", type=click.Path(file_okay=False, path_type=Path))
def oxford_pet(data: Path) -> None:
    """Oxford-IIIT Pet: cat or dog; 3,680 train images and 3,669 val images (its test list), masks from the trimaps."""
    archives, root = data / "archives", data / "oxford_pet"
    extract(fetch(ARCHIVES["pet_images"], archives), root / "images", "images")
    extract(fetch(ARCHIVES["pet_annotations"], archives), root / "annotations", "annotations")
    counts = []
    for split, list_name in (("train", "trainval"), ("val", "test")):
        rows = []
        for line in (root / "annotations" / f"{list_name}.txt").read_text(encoding="utf-8").splitlines():
            image_id, _, species, _ = line.split()  # species: 1 cat, 2 dog
            rows.append((image_id, int(species)))
        with click.progressbar(rows, label=f"masks of {split}", file=sys.stderr) as shown:
            for image_id, species in shown:
                image, mask = (root / split / d / f"{image_id}{s}" for d, s in (("images", ".jpg"), ("masks", ".png")))
                if not mask.is_file():
                    trimap = read_mask_file(root / "annotations" / "trimaps" / f"{image_id}.png")[0]
                    values = np.array([0, species, 0, IGNORE_INDEX], dtype=np.uint8)  # 1 pet, 2 background, 3 border
                    atomic_write(mask, encode_mask(values[trimap]))
                if not image.is_file():
                    atomic_write(image, (root / "images" / f"{image_id}.jpg").read_bytes())
        with (root / split / "labels.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(("image_id", "classes"))
            writer.writerows((image_id, ("cat", "dog")[species - 1]) for image_id, species in rows)
        counts.append(len(rows))
    finish(f"{counts[0]} train images (published: 3680), {counts[1]} val images (3669)", data, "oxford_pet")


def finish(counts: str, data: Path, config: str) -> None:
    """Print the numbers of images and the next command."""
    click.echo(f"{counts}\nnext: WSSEG_DATA={data.resolve()} wsseg data check -c {config}")


if __name__ == "__main__":
    try:
        cli()
    except (WssegError, OSError) as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(1)
