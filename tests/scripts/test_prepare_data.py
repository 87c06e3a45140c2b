"""Data preparation, from small archives in the published layout that a local server hands out."""

import hashlib
import importlib.util
import json
import shutil
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from scipy.io import savemat

from wsseg.cli.main import cli as wsseg_cli
from wsseg.data.masks import decode_mask, encode_mask

pytestmark = pytest.mark.slow  # processes, or images made at full size

SCRIPT = Path(__file__).parents[2] / "scripts" / "prepare_data.py"
XML = "<annotation><object><name>{}</name><difficult>0</difficult></object></annotation>"


@pytest.fixture
def script():
    spec = importlib.util.spec_from_file_location("prepare_data", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Handler(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def address(tmp_path):
    """Of a server of the folder `served`."""
    (tmp_path / "served").mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=tmp_path / "served"))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def serve(script, address, tmp_path, monkeypatch):
    """Pack a folder as one of the published archives, and have the script find it on the server."""

    def pack(name: str, folder: Path, suffix: str) -> None:
        kind = {".tar": "tar", ".tgz": "gztar", ".tar.gz": "gztar", ".zip": "zip"}[suffix]
        made = Path(shutil.make_archive(str(tmp_path / "served" / name), kind, folder))
        path = made.rename(made.with_name(f"{name}{suffix}"))
        md5 = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
        monkeypatch.setitem(script.ARCHIVES, name, script.Archive(f"{address}/{path.name}", md5))

    return pack


def photograph(path: Path, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (20, 30, 3), dtype=np.uint8)).save(path)


def write(path: Path, content: bytes | str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)


def mask_of(value: int) -> np.ndarray:
    mask = np.zeros((20, 30), np.uint8)
    mask[5:9, 3:7] = value
    return mask


def run(script, *arguments: str):
    return CliRunner().invoke(script.cli, arguments, catch_exceptions=False)


def serve_voc(serve, folder: Path) -> None:
    voc = folder / "voc" / "VOCdevkit" / "VOC2012"
    for index, image_id in enumerate(("a", "b", "c", "d")):
        photograph(voc / "JPEGImages" / f"{image_id}.jpg", index)
        shown = "cat" if image_id in "ab" else "person"  # as its mask below says
        write(voc / "Annotations" / f"{image_id}.xml", XML.format(shown))
    write(voc / "ImageSets/Segmentation/train.txt", "a\n")
    write(voc / "ImageSets/Segmentation/val.txt", "b\n")
    for image_id in ("a", "b"):
        write(voc / "SegmentationClass" / f"{image_id}.png", encode_mask(mask_of(8)))
    sbd = folder / "sbd" / "benchmark_RELEASE" / "dataset"
    write(sbd / "train.txt", "c\nb\n")
    write(sbd / "val.txt", "d\na\n")
    (sbd / "cls").mkdir()
    for image_id in ("a", "b", "c", "d"):
        savemat(sbd / "cls" / f"{image_id}.mat", {"GTcls": {"Segmentation": mask_of(15)}})
    serve("voc", folder / "voc", ".tar")
    serve("sbd", folder / "sbd", ".tgz")


def test_voc12_joins_voc_and_sbd_without_val(script, serve, tmp_path, monkeypatch):
    serve_voc(serve, tmp_path / "source")
    data = tmp_path / "data"
    assert "3 train images" in run(script, "voc12", str(data)).output
    root = data / "VOCdevkit" / "VOC2012"
    assert (root / "ImageSets/Segmentation/train_aug.txt").read_text().split() == ["a", "c", "d"]  # never val's b
    masks = {p.stem: decode_mask(p.read_bytes()).max() for p in (root / "SegmentationClassAug").glob("*.png")}
    assert masks == {"a": 8, "b": 8, "c": 15, "d": 15}  # VOC's own masks win over SBD's
    monkeypatch.setenv("WSSEG_DATA", str(data))
    checked = CliRunner().invoke(wsseg_cli, ["plan", "cam_crf", "-c", "voc12", "--store", str(tmp_path / "store")])
    assert checked.exit_code == 0, checked.output


def test_a_second_call_does_only_what_is_missing(script, serve, tmp_path):
    serve_voc(serve, tmp_path / "source")
    data = tmp_path / "data"
    run(script, "voc12", str(data))
    for served in (tmp_path / "served").iterdir():  # nothing may be downloaded again
        served.unlink()
    lost = data / "VOCdevkit/VOC2012/SegmentationClassAug/c.png"
    whole = lost.read_bytes()
    lost.unlink()
    assert run(script, "voc12", str(data)).exit_code == 0
    assert lost.read_bytes() == whole


def test_coco14(script, serve, tmp_path, monkeypatch):
    source = tmp_path / "source"
    for index, split in enumerate(("train", "val")):
        photograph(source / split / f"{split}2014" / "x.jpg", index)
        instances = {
            "images": [{"id": 1, "file_name": "x.jpg", "height": 20, "width": 30}],
            "categories": [{"id": 18, "name": "dog"}],
            "annotations": [{"id": 1, "image_id": 1, "category_id": 18, "iscrowd": 0, "area": 16,
                             "bbox": [3, 5, 4, 4], "segmentation": [[3, 5, 7, 5, 7, 9, 3, 9]]}],
        }  # fmt: skip
        write(source / "json" / "annotations" / f"instances_{split}2014.json", json.dumps(instances))
        serve(f"coco_{split}", source / split, ".zip")
    serve("coco_annotations", source / "json", ".zip")
    data = tmp_path / "data"
    assert "1 train images" in run(script, "coco14", str(data)).output
    monkeypatch.setenv("WSSEG_DATA", str(data))
    planned = CliRunner().invoke(wsseg_cli, ["plan", "cam_crf", "-c", "coco14", "--store", str(tmp_path / "store")])
    assert planned.exit_code == 0, planned.output


def test_oxford_pet_masks_from_trimaps(script, serve, tmp_path, monkeypatch):
    source = tmp_path / "source"
    trimap = np.full((20, 30), 2, np.uint8)
    trimap[4:10, 2:8], trimap[5:9, 3:7] = 3, 1
    for index, image_id in enumerate(("Bengal_1", "beagle_1", "beagle_2")):
        photograph(source / "images" / "images" / f"{image_id}.jpg", index)
        path = source / "annotations" / "annotations" / "trimaps" / f"{image_id}.png"
        write(path, b"")
        Image.fromarray(trimap).save(path)
    write(source / "annotations/annotations/trainval.txt", "Bengal_1 6 1 1\nbeagle_1 5 2 1\n")
    write(source / "annotations/annotations/test.txt", "beagle_2 5 2 1\n")
    serve("pet_images", source / "images", ".tar.gz")
    serve("pet_annotations", source / "annotations", ".tar.gz")
    data = tmp_path / "data"
    assert "2 train images" in run(script, "oxford_pet", str(data)).output
    dog = decode_mask((data / "oxford_pet/train/masks/beagle_1.png").read_bytes())
    assert (dog[6, 4], dog[4, 2], dog[0, 0]) == (2, 255, 0)
    assert "Bengal_1,cat" in (data / "oxford_pet/train/labels.csv").read_text()
    monkeypatch.setenv("WSSEG_DATA", str(data))
    planned = CliRunner().invoke(wsseg_cli, ["plan", "cam_crf", "-c", "oxford_pet", "--store", str(tmp_path / "s")])
    assert planned.exit_code == 0, planned.output


def test_a_tampered_archive_is_refused(script, serve, tmp_path):
    serve_voc(serve, tmp_path / "source")
    served = tmp_path / "served" / "sbd.tgz"
    served.write_bytes(served.read_bytes()[:-1] + b"x")
    with pytest.raises(script.DatasetError, match=r"sbd\.tgz: its MD5 is not .*delete it"):
        run(script, "voc12", str(tmp_path / "data"))
    assert not (tmp_path / "data" / "sbd").exists()


def test_an_unreachable_address_says_what_to_do(script, address, tmp_path, monkeypatch):
    monkeypatch.setitem(script.ARCHIVES, "voc", script.Archive(f"{address}/gone.tar", "0" * 32))
    with pytest.raises(script.DatasetError, match=r"gone\.tar: .*download it by other means"):
        run(script, "voc12", str(tmp_path / "data"))
