"""Ids and class names that would leave a folder, run in a shell, a page or a spreadsheet."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as PILImage

from tests.stress.children import CONFIG, Child, wsseg
from wsseg.data.masks import encode_mask
from wsseg.errors import DatasetError
from wsseg.names import check_id

PATIENCE = 300.0
ILLEGAL = (
    "../escaped", "a/../../escaped", "/etc/escaped", "a/./b", "a//b", "", ".", "..", "nul\0byte", "new\nline", "tab\tbed",
    "C:/windows", "back\\slash", "n" * 300, "right\u200fto left", "over\u202eride", "bell\x07", "del\x7f", "a/",
    "\ud800lone", "zero\u200bwidth", "caf\udce9", "line\u2028separator",
)  # fmt: skip
LEGAL = (
    "plain", "Case", "case", "with space", "ünïcode", "画像", "🙂", "-leading-dash", "--help", "=cmd()", "quote'\"s",
    "<script>alert(1)</script>".replace("/", "_"), "$(touch escaped)", "`touch escaped`", ";touch escaped", "%s%n", "con", "nul",
    "sub/folder/deep", ".hidden", "n" * 200, "12:30", "no-break\u00a0space", "at 3.04\u202fPM", "👩\u200d🔬",
)  # fmt: skip
CLASSES = (
    "<b>bold</b>",
    "=cmd()",
    "-rf",
    "quote\"'",
    "{{ 7*7 }}",
    "a class",
    "ünïcode 🙂",
    "no-break\u00a0space: colon",
)


def write_data(folder: Path) -> Path:
    """Write a CSV data set whose ids and classes are all valid, and odd; return its config."""
    for split in ("train", "val"):
        with (folder / f"{split}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["image_id", "classes"])
            for index, item_id in enumerate(LEGAL):
                writer.writerow([item_id, CLASSES[index % len(CLASSES)]])
                image = PILImage.new("RGB", (48, 32), (index * 9, 90, 255 - index * 9))
                path = folder / split / "images" / f"{item_id}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                image.save(path)
                mask = PILImage.new("L", (48, 32), index % len(CLASSES) + 1)
                target = folder / split / "masks" / f"{item_id}.png"
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(encode_mask(np.asarray(mask)))
    head = [
        "rng_seed = 5",
        "[data]",
        'kind = "csv"',
        'separator = "|"',
        f"classes = {json.dumps(CLASSES, ensure_ascii=False)}",
    ]
    for split in ("train", "val"):
        head += [f"[data.{split}]", f'images = "{split}/images"', f'labels = "{split}.csv"', f'masks = "{split}/masks"']
    rest = CONFIG.format(workers=1, loaders=0)
    config = folder / "names.toml"
    config.write_text("\n".join(head) + "\n\n" + rest[rest.index("[classifier]") :], encoding="utf-8")
    return config


def stress(count: int, folder: Path) -> dict[str, Any]:
    """Refuse the invalid ids, and take the valid ones through the whole pipeline; nothing may appear beside its folders."""
    del count  # there is one list of names
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    failures = []
    for item_id in ILLEGAL:
        try:
            check_id(item_id, "here")
            failures.append(f"{item_id!r} was taken for a valid id")
        except DatasetError as error:
            if "\n" in str(error):
                failures.append(f"{item_id!r}: not one line")
    config, store = write_data(folder), folder / "store"
    before = {p for p in folder.rglob("*") if store not in p.parents and p != store}
    child = Child(wsseg(["run", "best", "-c", str(config), "--store", str(store)]), folder.parent / "names.log")
    if (code := child.wait(PATIENCE)) != 0:
        failures.append(f"the run ended with {code}: {child.output[-500:]}")
    after = {p for p in folder.rglob("*") if store not in p.parents and p != store}
    failures += [f"{path} appeared" for path in sorted(after - before)]
    failures += [f"{path} appeared" for path in folder.parent.glob("escaped*")]
    written = {
        path.relative_to(folder_of).with_suffix("").as_posix()
        for folder_of in store.glob("objects/*/masks")
        for path in folder_of.rglob("*.png")
    }
    failures += [f"{item_id!r} has no mask" for item_id in LEGAL if code == 0 and item_id not in written]
    return {"illegal_refused": len(ILLEGAL), "legal_taken": len(LEGAL), "classes": len(CLASSES), "failures": failures}
