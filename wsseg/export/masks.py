"""Export of masks for other tools: COCO, Label Studio, CVAT, and a folder that Hugging Face ``datasets`` loads.

All formats contain the class names. Undecided pixels (255) are exported if masks are images, and omitted otherwise.
"""

import json
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from wsseg.data.images import LabeledImages
from wsseg.data.masks import encode_mask
from wsseg.data.reading import photograph_bytes
from wsseg.data.tracks import bed_lines
from wsseg.data.written import RECORD
from wsseg.errors import OutputError, extra
from wsseg.labels import BACKGROUND, IGNORE_INDEX, ClassMap, voc_palette
from wsseg.names import composed
from wsseg.outputs import Outputs
from wsseg.progress import log, track
from wsseg.types import LabeledImage, Mask

_DATE = re.compile(r"\d{4}-\d\d-\d\d($|[ T]\d\d)")


class Masks(Protocol):
    """A source of masks by item id."""

    def mask(self, item_id: str) -> Mask: ...


@dataclass(frozen=True)
class Written:
    """Result of an export.

    Args:
        path: the file or folder for the other tool.
        images: number of images in it.
    """

    path: Path
    images: int


def class_regions(mask: Mask) -> list[tuple[int, NDArray[np.bool_]]]:
    """Return the (class id, (H, W) bool region) of each foreground class in a mask, in ascending order."""
    return [(int(k), mask == k) for k in np.unique(mask) if k not in (BACKGROUND, IGNORE_INDEX)]


def write_coco(images: LabeledImages, masks: Masks, output: Path, outputs: Outputs) -> Written:
    """Write COCO instances JSON: one annotation per class and image, as compressed RLE.

    File names are relative to the folder that the ids are relative to.
    """
    with extra("coco", "COCO masks"):
        from pycocotools import mask as coco_mask
    outputs.check([output])
    categories = [{"id": k, "name": name} for k, name in enumerate(images.classes.names, start=1)]
    described: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, item in enumerate(track(images.items, len(images), "export"), start=1):
        height, width = item.size
        described.append({"id": number, "file_name": _file_name(item), "height": height, "width": width})
        for class_id, inside in class_regions(masks.mask(item.id)):
            encoded = coco_mask.encode(np.asfortranarray(inside.astype(np.uint8)))
            annotations.append({
                "id": len(annotations) + 1, "image_id": number, "category_id": class_id, "iscrowd": 0,
                "area": float(inside.sum()), "bbox": [float(v) for v in coco_mask.toBbox(encoded)],
                "segmentation": {"size": [height, width], "counts": encoded["counts"].decode()},
            })  # fmt: skip
    content = {
        "info": {"description": "wsseg"},
        "images": described,
        "annotations": annotations,
        "categories": categories,
    }
    outputs.write(output, json.dumps(content).encode())
    return Written(output, len(images))


def write_label_studio(images: LabeledImages, masks: Masks, output: Path, outputs: Outputs) -> Written:
    """Write Label Studio tasks with pre-annotations (brush labels), and a labelling config for the project's settings.

    Images are referred to as ``/data/local-files/?d=FILE``, percent-encoded, for a local storage over the folder of the images.
    """
    config = output.with_suffix(".config.xml")
    outputs.check([output, config])
    tasks = []
    for number, item in enumerate(track(images.items, len(images), "export"), start=1):
        height, width = item.size
        results = [
            {
                "id": f"image{number}-class{class_id}", "type": "brushlabels", "from_name": "mask", "to_name": "image", "image_rotation": 0,
                "original_width": width, "original_height": height,
                "value": {"format": "rle", "rle": label_studio_rle(inside), "brushlabels": [images.classes.with_background[class_id]]},
            }
            for class_id, inside in class_regions(masks.mask(item.id))
        ]  # fmt: skip
        data = {"image": f"/data/local-files/?d={quote(_file_name(item))}", "id": item.id}
        tasks.append({"data": data, "predictions": [{"model_version": "wsseg", "result": results}]})
    view = ElementTree.Element("View")
    ElementTree.SubElement(view, "Image", name="image", value="$image", zoom="true")
    brushes = ElementTree.SubElement(view, "BrushLabels", name="mask", toName="image")
    for class_id, name in enumerate(images.classes.names, start=1):
        ElementTree.SubElement(brushes, "Label", value=name, background=_hex_colour(class_id))
    outputs.write(config, ElementTree.tostring(view))
    outputs.write(output, json.dumps(tasks).encode())
    return Written(output, len(images))


def label_studio_rle(inside: NDArray[np.bool_]) -> list[int]:
    """Return the run-length code of Label Studio, a list of bytes, for a mask whose RGBA bytes are 255 or 0.

    Format (`label_studio_sdk.converter.brush`): 32 bits for the number of RGBA bytes, 5 bits for the bits per word minus 1, and
    four times 4 bits for the bits of the four sizes of run lengths minus 1. Then for each run: 1 bit (1 for equal bytes), 2 bits
    for the size of its length, the length minus 1, and the byte (or all bytes, if they differ).
    """
    flat = inside.ravel()
    edges = np.flatnonzero(np.diff(flat)) + 1
    starts = np.concatenate([[0], edges])
    lengths = 4 * np.diff(np.concatenate([starts, [flat.size]]))  # R, G, B and A
    sizes = (3, 4, 8, 16)
    bits = [f"{4 * flat.size:032b}", f"{7:05b}", *(f"{s - 1:04b}" for s in sizes)]
    for start, length in zip(starts, lengths, strict=True):
        byte = f"{255 if flat[start] else 0:08b}"
        while length:
            part = min(int(length), 2**16)
            which = next(i for i, s in enumerate(sizes) if part <= 2**s)
            bits.append(f"1{which:02b}{part - 1:0{sizes[which]}b}{byte}")
            length -= part
    text = "".join(bits)
    text += "0" * (-len(text) % 8)
    return list(int(text, 2).to_bytes(len(text) // 8, "big"))


def write_cvat(images: LabeledImages, masks: Masks, output: Path, outputs: Outputs) -> Written:
    """Write "CVAT for images 1.1" XML: one ``mask`` element per class and image."""
    outputs.check([output])
    root = ElementTree.Element("annotations")
    ElementTree.SubElement(root, "version").text = "1.1"
    labels = ElementTree.SubElement(ElementTree.SubElement(ElementTree.SubElement(root, "meta"), "task"), "labels")
    for class_id, name in enumerate(images.classes.names, start=1):
        label = ElementTree.SubElement(labels, "label")
        ElementTree.SubElement(label, "name").text = name
        ElementTree.SubElement(label, "color").text = _hex_colour(class_id)
        ElementTree.SubElement(label, "type").text = "mask"
    for number, item in enumerate(track(images.items, len(images), "export")):
        height, width = item.size
        element = ElementTree.SubElement(
            root, "image", id=str(number), name=_file_name(item), width=str(width), height=str(height)
        )
        for class_id, inside in class_regions(masks.mask(item.id)):
            rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
            box = inside[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
            ElementTree.SubElement(
                element, "mask", label=images.classes.with_background[class_id], source="auto", occluded="0", z_order="0",
                rle=", ".join(map(str, run_lengths(box))), left=str(columns[0]), top=str(rows[0]), width=str(box.shape[1]),
                height=str(box.shape[0]),
            )  # fmt: skip
    outputs.write(output, b'<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(root))
    return Written(output, len(images))


def run_lengths(inside: NDArray[np.bool_]) -> list[int]:
    """Return the run lengths of a mask in row order, starting with False (0 if the first pixel is True)."""
    flat = inside.ravel()
    edges = np.concatenate([[0], np.flatnonzero(np.diff(flat)) + 1, [flat.size]])
    lengths: list[int] = np.diff(edges).tolist()
    return [0, *lengths] if flat[0] else lengths


def write_huggingface(images: LabeledImages, masks: Masks, output: Path, outputs: Outputs) -> Written:
    """Write a folder for ``datasets.load_dataset("imagefolder", data_dir=...)``: photographs, masks and labels.

    Photographs are copied; with links, changes in the folder would reach the originals.

    Raises:
        OutputError: the split's folder contains other files, which `datasets` would read as well.
    """
    folder, card = output / images.split, output / "README.md"
    files = [(item, f"images/{_file_name(item)}", f"masks/{item.id}.png") for item in images.items]
    targets = {folder / "metadata.jsonl", *(folder / name for _, *names in files for name in names)}
    outputs.check([card, *targets])
    others = [path for path in folder.rglob("*") if path.is_file() and path not in targets and path.name != RECORD]
    if others:
        raise OutputError(
            f"{folder} contains other files, such as {others[0].relative_to(folder)}; choose an empty folder with -o"
        )
    lines = []
    for item, photograph, mask in track(files, len(files), "export"):
        outputs.write(folder / photograph, photograph_bytes(item))
        outputs.write(folder / mask, encode_mask(masks.mask(item.id)))
        names = images.classes.names_of(item.class_ids)
        lines.append(json.dumps({"file_name": photograph, "mask_file_name": mask, "id": item.id, "classes": names}))
    if all(_DATE.match(item.id) for item in images.items):
        log.warning("all ids look like dates; `datasets` will read the column 'id' as timestamps")
    outputs.write(folder / "metadata.jsonl", "".join(line + "\n" for line in lines).encode())
    outputs.write(card, _card(images.classes).encode())
    return Written(output, len(images))


def _card(classes: ClassMap) -> str:
    lines = "\n".join(f"{k}: {json.dumps(name)}" for k, name in enumerate(classes.with_background))
    return f"# Masks made by wsseg\n\nValues of a mask are class ids; 255 is undecided.\n\n{lines}\n"


def _file_name(item: LabeledImage) -> str:
    """Return the path of an image relative to the folder that ids are relative to, in the Unicode form of the disk."""
    name = "/".join(item.path.parts[-item.id.count("/") - 1 :])
    return name if composed(name) == item.id + composed(item.path.suffix) else item.id + item.path.suffix


def _hex_colour(class_id: int) -> str:
    return "#{:02x}{:02x}{:02x}".format(*voc_palette()[class_id])


def write_bed(images: LabeledImages, masks: Masks, output: Path, outputs: Outputs) -> Written:
    """Write the intervals of all sequences as one BED file."""
    lines = [
        line
        for item in track(images.items, len(images), "exporting")
        for line in bed_lines(item.id, masks.mask(item.id), images.classes.with_background)
    ]
    outputs.write(output, "".join(lines).encode())
    return Written(output, len(images))


WRITERS: dict[str, Callable[[LabeledImages, Masks, Path, Outputs], Written]] = {
    "coco": write_coco,
    "label_studio": write_label_studio,
    "cvat": write_cvat,
    "huggingface": write_huggingface,
    "bed": write_bed,
}
SUFFIXES: dict[str, str] = {
    "coco": ".json",
    "label_studio": ".label_studio.json",
    "cvat": ".xml",
    "huggingface": "",
    "bed": ".bed",
}
