"""Configs, recipes, label files and records that are broken, odd or hostile: read, or refused in one line, within 5 s.

`test_stress.py` feeds the parsers here with Hypothesis, `fuzz.py` with atheris.
"""

import re
import shutil
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as PILImage

from wsseg.config import load_config, shipped_folder
from wsseg.data.config import DATA_KINDS, CocoData, CocoSplit, VocData, VocSplit
from wsseg.data.file_memory import FileMemory
from wsseg.data.images import load_images
from wsseg.data.layouts import list_split
from wsseg.data.tables import read_label_csv
from wsseg.data.truth.loading import load_truth
from wsseg.errors import WssegError
from wsseg.running.recipe import load_recipe
from wsseg.stages import TABLES
from wsseg.store.objects import ArtifactStore

SECONDS = 5.0
CSV = 'image_id,classes\na,cat dog\nsub/b,\n"c,d",cat\n'
COCO = """{"images": [{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "sub/b.jpg"}],
"annotations": [{"id": 1, "image_id": 1, "category_id": 3}], "categories": [{"id": 3, "name": "cat"}]}"""
VOC = "<annotation><object><name>cat</name><difficult>0</difficult></object><object><name>dog</name></object></annotation>"
RUN = """{"recipe": "best", "config_name": "a", "started": "2026", "status": "finished", "steps": {"seeds": {"key": "%s",
"stage": "make_seeds", "version": 2, "config": {"size": 64}, "inputs": {"images": "00"}}}}""" % ("0" * 64)
BOMBS = {
    "coco": ["[" * 100_000, '{"images": ' * 50_000, "1e999999", '{"images": [{"id": 1e400, "file_name": 5}]}'],
    "voc": [
        '<!DOCTYPE a [<!ENTITY x "ha"><!ENTITY y "&x;&x;&x;&x;">]><annotation><name>&y;</name></annotation>',
        '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><annotation><object><name>&x;</name></object></annotation>',
        "<a>" * 100_000,
    ],
    "config": ["a = " + "[" * 50_000, "a." * 50_000 + "b = 1", "[data]\nkind = " + "9" * 5_000, "x = 1e400"],
    "recipe": ["[steps.a]\nstage = 5\ninputs = 7", "[steps]\na = 5", "steps = []", '[steps."a b"]\nstage = "make_seeds"'],
    "csv": ['"' * 200_000, "image_id,classes\n" + "a" * 300_000 + ",b", "image_id,classes\n" + "a,b\n" * 2],
    "run": ["[]", "null", '{"steps": 5}', '{"steps": {"a": 1}}'],
}  # fmt: skip


TRUTH = """{"images": [{"id": 1, "file_name": "a.png", "height": 8, "width": 10}, {"id": 2, "file_name": "b.png"}],
"categories": [{"id": 3, "name": "cat"}, {"id": 4, "name": "dog"}], "annotations": [
{"id": 1, "image_id": 1, "category_id": 3, "segmentation": [[2.5, 2, 8, 2, 8, 6, 2, 6], [0, 0, 3, 0, 3, 3]], "bbox": [2, 2, 6, 4]},
{"id": 2, "image_id": 1, "category_id": 4, "segmentation": {"size": [8, 10], "counts": [33, 2, 6, 2, 6, 2, 29]}, "iscrowd": 1},
{"id": 3, "image_id": 2, "category_id": 4, "segmentation": {"size": [8, 10], "counts": "j0440V1"}, "iscrowd": 0},
{"id": 4, "image_id": 2, "category_id": 3, "segmentation": [], "bbox": [0, 0, 3, 2]}]}"""


def parsers(folder: Path) -> dict[str, tuple[str, Callable[[bytes], object]]]:
    """Return by name: a sound text, and what reads one from bytes.

    Args:
        folder: an empty folder; the texts are written into it.
    """
    (folder / "ImageSets" / "Segmentation").mkdir(parents=True)
    (folder / "Annotations").mkdir()
    (folder / "JPEGImages").mkdir()
    (folder / "ImageSets" / "Segmentation" / "train.txt").write_text("a\n")
    store = ArtifactStore(folder / "store")
    voc = VocData(kind="voc", root=folder, train=VocSplit(list="train"))
    coco = CocoData(kind="coco", train=CocoSplit(images=folder, annotations=folder / "coco.json"))

    def reading(name: str, read: Callable[[Path], object]) -> Callable[[bytes], object]:
        def from_bytes(data: bytes) -> object:
            (folder / name).write_bytes(data)
            return read(folder / name)

        return from_bytes

    for place, name in enumerate(("a.png", "b.png")):
        PILImage.new("RGB", (10, 8), (place, 0, 0)).save(folder / name)
    memory = FileMemory(folder / "files.sqlite")

    def true_masks(_: Path) -> None:
        lenient = replace(coco, on_bad_image="skip")
        truth = load_truth(lenient, load_images(lenient, "train", memory), memory)
        for item_id in truth.ids:
            if set(np.unique(truth.mask(item_id)).tolist()) - {0, 1, 2, 255}:
                raise RuntimeError(f"{item_id}: the mask holds other values than class ids")

    config = (shipped_folder("configs") / "voc_vehicles.toml").read_text()
    recipe = (shipped_folder("pipelines") / "best.toml").read_text()
    return {
        "config": (config, reading("config.toml", lambda path: load_config(path, TABLES, DATA_KINDS))),
        "recipe": (recipe, reading("recipe.toml", load_recipe)),
        "csv": (CSV, reading("labels.csv", lambda path: read_label_csv(path, " "))),
        "coco": (COCO, reading("coco.json", lambda _: list_split(coco, "train"))),
        "truth": (TRUTH, reading("coco.json", true_masks)),
        "voc": (VOC, reading("Annotations/a.xml", lambda _: list_split(voc, "train"))),
        "run": (RUN, reading("store/runs/a.json", lambda _: store.run("a"))),
    }


def mutated(text: str, rng: np.random.Generator) -> bytes:
    """Return a text with some tokens or bytes changed, doubled, moved or dropped."""
    odd = ["", "0", "-1", "1e400", "null", '"', "'", "[", "]", "{", "}", "\0", "\n", "../x", "true", "9" * 40, "é", "\ud7ff", "=", ",", "&x;"]  # fmt: skip
    data = bytearray(text.encode())
    for _ in range(int(rng.integers(1, 6))):
        start = int(rng.integers(len(data) + 1))
        end = min(len(data), start + int(rng.integers(0, 30)))
        how = int(rng.integers(4))
        if how == 0:
            data[start:end] = str(rng.choice(odd)).encode()
        elif how == 1:
            data[start:start] = data[end : end + int(rng.integers(40))]
        elif how == 2 and data:
            data[min(start, len(data) - 1)] ^= 1 << int(rng.integers(8))
        else:
            data[start:end] = b""
    return bytes(data)


_VALUE = re.compile(r'(?<=[\[,: ])-?[0-9.]+|\[[^\]\[{}]*\]|(?<=: )"[^"]*"')  # numbers, innermost lists, texts
_ODD = ("0", "-1", "2.5", "1e400", "1e9", "-1e300", "NaN", "Infinity", "9" * 40, "null", "true", '""', '"2"', '"name"', "[]",
        "[[]]", "{}", "[2, 2]", "[[1, 1]]", '"é"', "4294967296", "-2147483649")  # fmt: skip


def altered(text: str, rng: np.random.Generator) -> bytes:
    """Return a JSON text with one or two of its values replaced; it is still JSON."""
    for _ in range(int(rng.integers(1, 3))):
        tokens = list(_VALUE.finditer(text))
        token = tokens[int(rng.integers(len(tokens)))]
        text = text[: token.start()] + str(rng.choice(_ODD)) + text[token.end() :]
    return text.encode()


def judge(read: Callable[[bytes], object], data: bytes) -> tuple[str, str]:
    """Return ("read" | "refused" | "failed", why it failed) of one text."""
    begin = time.monotonic()
    try:
        read(data)
        verdict = ("read", "")
    except WssegError as error:
        verdict = ("refused", "") if "\n" not in str(error) and len(str(error)) < 2_000 else ("failed", "not one line")
    except Exception as error:  # noqa: BLE001 (that is what is looked for)
        verdict = ("failed", f"{type(error).__name__}: {str(error)[:200]}")
    if (took := time.monotonic() - begin) > SECONDS:
        verdict = ("failed", f"took {took:.1f} s")
    return verdict


def stress(count: int, folder: Path) -> dict[str, Any]:
    """Read `count` mutants of each kind of text, and the bombs."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    failures: list[str] = []
    figures: dict[str, Any] = {}
    for name, (sound, read) in parsers(folder).items():
        if (verdict := judge(read, sound.encode())) != ("read", ""):
            failures.append(f"{name}: the sound one: {verdict}")
        verdicts: Counter[str] = Counter()
        mutants = [mutated(sound, rng) for _ in range(count)]
        if name in ("coco", "truth"):
            mutants += [altered(sound, rng) for _ in range(count)]
        for data in [*(bomb.encode() for bomb in BOMBS.get(name, [])), *mutants]:
            verdict, why = judge(read, data)
            verdicts[verdict] += 1
            if why:
                failures.append(f"{name}: {why}: {data[:120]!r}")
        figures[name] = dict(verdicts)
    return {"texts": figures, "failures": failures}
