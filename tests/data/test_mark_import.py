"""What annotation tools export becomes marks; what wsseg exported, a tool corrected and wsseg reads again is the same mask."""

import json

import numpy as np
import pytest
from PIL import Image as PILImage

from wsseg.data.annotations import label_studio_region, read_annotations
from wsseg.data.file_memory import FileMemory
from wsseg.data.frames import photographs
from wsseg.data.images import LabeledImages
from wsseg.data.mark_import import import_marks
from wsseg.data.masks import encode_mask
from wsseg.data.reading import inspect_file
from wsseg.errors import DatasetError
from wsseg.export.masks import label_studio_rle, write_coco, write_cvat, write_label_studio
from wsseg.labels import ClassMap
from wsseg.outputs import Outputs
from wsseg.types import LabeledImage

NAMES = ("scratch", "a <b>")


@pytest.fixture
def images(tmp_path):
    """Return three training images (an oblong one, one in a sub-folder, one without marks) and masks of two of them."""
    rng = np.random.default_rng(0)
    items, masks = [], {}
    for item_id, size in (("a", (15, 27)), ("deep/b&c", (40, 30)), ("empty", (9, 9))):
        path = tmp_path / "photos" / f"{item_id}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        PILImage.fromarray(rng.integers(0, 255, (*size, 3)).astype(np.uint8)).save(path)
        items.append(LabeledImage(item_id, path, (1, 2), size, inspect_file(path).sha256))
        masks[item_id] = (
            rng.choice([0, 1, 2, 255], size).astype(np.uint8) if item_id != "empty" else np.full(size, 0, np.uint8)
        )
    return LabeledImages("train", ClassMap(NAMES), tuple(items), {}, "key"), masks


class FixedMasks:
    def __init__(self, masks):
        self.mask = masks.__getitem__


def imported(source, images, **options):
    return import_marks(source, images, photographs(images, FileMemory()), **options)


def submitted(path):
    """Do what a person does in Label Studio: open each task, accept the pre-annotation, submit."""
    tasks = json.loads(path.read_text())
    for task in tasks:
        task["annotations"] = [{"id": 1, "was_cancelled": False, "result": task.pop("predictions")[0]["result"]}]
    path.write_text(json.dumps(tasks))
    return path


@pytest.mark.parametrize("tool", ["label_studio", "cvat", "coco"])
@pytest.mark.parametrize("complete", [False, True])
def test_masks_that_were_sent_out_come_back(images, tmp_path, tool, complete):
    """Undecided pixels and the background are not drawn: unsaid, or with `complete` background."""
    listed, masks = images
    write = {"label_studio": write_label_studio, "cvat": write_cvat, "coco": write_coco}[tool]
    path = write(listed, FixedMasks(masks), tmp_path / "out" / "x.data", Outputs()).path
    if tool == "label_studio":
        submitted(path)
    marks = imported(path, listed, complete=complete).marks
    rest = 0 if complete else 255
    for item in listed.items[:2]:
        expected = np.where(np.isin(masks[item.id], [1, 2]), masks[item.id], rest)
        assert (marks[item.id] == expected).all()
    assert ("empty" in marks) == (complete and tool != "coco")  # COCO lists images, not what a person has looked at


def test_masks_drawn_with_cvats_own_library_are_read(images, tmp_path):
    sdk = pytest.importorskip("cvat_sdk.masks", reason="pip install wsseg[dev]")
    listed, masks = images
    inside = masks["a"] == 1
    *runs, left, top, right, bottom = map(int, sdk.encode_mask(inside))
    (tmp_path / "x.xml").write_text(
        f'<annotations><image id="0" name="photos/a.png" width="27" height="15"><mask label="scratch" z_order="0" '
        f'rle="{", ".join(map(str, runs))}" left="{left}" top="{top}" width="{right - left + 1}" '
        f'height="{bottom - top + 1}"/></image></annotations>'
    )
    assert (imported(tmp_path / "x.xml", listed).marks["a"] == np.where(inside, 1, 255)).all()


def test_label_studios_own_code_is_read():
    brush = pytest.importorskip(
        "label_studio_sdk.converter.brush",
        reason="label-studio-sdk requires an older numpy: install it in a separate environment",
    )
    inside = np.random.default_rng(0).random((37, 53)) < 0.3
    code = brush.encode_rle(np.repeat(inside.ravel() * 255, 4).astype(np.uint8))
    assert (label_studio_region(list(code), (37, 53)) == inside).all()


def test_runs_of_single_words_are_read():
    """Written by hand after the format's description: 1 x 2 pixels as one run of eight different words."""
    words = [9, 9, 9, 200, 9, 9, 9, 100]
    bits = f"{8:032b}{7:05b}" + "".join(f"{s - 1:04b}" for s in (3, 4, 8, 16)) + "0" + "00" + f"{7:03b}"
    bits += "".join(f"{word:08b}" for word in words)
    bits += "0" * (-len(bits) % 8)
    code = list(int(bits, 2).to_bytes(len(bits) // 8, "big"))
    assert label_studio_region(code, (1, 2)).tolist() == [[True, False]]
    for damaged in (code[:-3], [300], code[:4], "abc"):
        with pytest.raises(ValueError, match="its rle"):
            label_studio_region(damaged, (1, 2))
    with pytest.raises(ValueError, match="holds 8 words of 8 bits; expected 4000000"):
        label_studio_region(code, (1000, 1000))


def task(result, image="/data/upload/3/0a1b2c3d-a.png", **annotation):
    return {"id": 4, "data": {"image": image}, "annotations": [{"result": result, **annotation}]}


def drawn(kind, label, **value):
    return {"type": kind, "original_width": 27, "original_height": 15, "value": {kind: [label], **value}}


def test_polygons_and_rectangles_of_label_studio(images, tmp_path):
    """Coordinates are percent; later shapes lie above earlier ones; 'background' says that it is none of the classes."""
    listed, _ = images
    square = drawn("rectanglelabels", "scratch", x=0, y=0, width=100 * 9 / 27, height=60, rotation=0)
    corners = [[0, 0], [100 * 6 / 27, 0], [100 * 6 / 27, 20], [0, 20]]
    hole = drawn("polygonlabels", "Background", points=corners)
    other = {"type": "keypointlabels", "value": {"x": 1}}
    (tmp_path / "x.json").write_text(json.dumps([task([square, hole, other])]))
    found = imported(tmp_path / "x.json", listed)
    expected = np.full((15, 27), 255)
    expected[:9, :9] = 1
    expected[:3, :6] = 0
    assert (found.marks["a"] == expected).all()
    assert found.notes == ["Label Studio: left out, because they have no area: keypointlabels (1)"]


def test_polygons_of_cvat_lie_in_the_order_of_z(images, tmp_path):
    listed, _ = images
    (tmp_path / "x.xml").write_text(
        '<annotations><image name="a.png" width="27" height="15">'
        '<box label="a &lt;b&gt;" xtl="0" ytl="0" xbr="4" ybr="4" z_order="2"/>'
        '<polygon label="scratch" points="0,0;9,0;9,9;0,9" z_order="1"/><points label="scratch" points="1,1"/>'
        "</image></annotations>"
    )
    mark = imported(tmp_path / "x.xml", listed).marks["a"]
    assert (mark[:4, :4] == 2).all() and (mark[4:9, :9] == 1).all() and (mark[9:] == 255).all()


def test_a_canvas_of_half_the_size_is_scaled(images, tmp_path):
    listed, _ = images
    (tmp_path / "x.xml").write_text(
        '<annotations><image name="deep/b&amp;c.png" width="15" height="20">'
        '<polygon label="scratch" points="0,0;15,0;15,10;0,10"/></image></annotations>'
    )
    mark = imported(tmp_path / "x.xml", listed).marks["deep/b&c"]
    assert (mark[:20] == 1).all() and (mark[20:] == 255).all()


def test_a_folder_of_colours_or_of_other_values(images, tmp_path):
    listed, masks = images
    folder = tmp_path / "masks"
    folder.mkdir()
    colours = np.array([[0, 0, 0], [255, 0, 0], [0, 0, 255]], np.uint8)
    mask = np.where(masks["a"] == 255, 0, masks["a"])
    PILImage.fromarray(colours[mask]).save(folder / "a.png")
    colors = {"background": "0,0,0", "scratch": "0,0,255", "a <b>": "255,0,0"}
    swapped = np.array([0, 2, 1])[mask]
    assert (imported(folder, listed, values=colors).marks["a"] == swapped).all()
    (folder / "labelmap.txt").write_text("background:0,0,0::\nscratch:255,0,0::\na <b>:0,0,255::\n")
    assert (imported(folder, listed).marks["a"] == mask).all()
    (folder / "labelmap.txt").unlink()
    (folder / "a.png").write_bytes(encode_mask(np.array([9, 7, 0], np.uint8)[mask]))
    read = imported(folder, listed, values={"background": "9", "scratch": "7", "unsaid": "0"}).marks["a"]
    assert (read == np.array([0, 1, 255])[mask]).all()
    with pytest.raises(DatasetError, match=r"a.png: values \[9\] have no class; .* such as --value scratch=9"):
        imported(folder, listed, values={"scratch": "7", "unsaid": "0"})
    with pytest.raises(DatasetError, match="scratch=red: expected a value from 0 to 255, or a colour R,G,B"):
        imported(folder, listed, values={"scratch": "red"})


CVAT = '<annotations><image name="a.png" width="27" height="15">{}</image></annotations>'


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.json", "{", "neither XML nor JSON"),
        ("x.json", "[1, 2]", "found JSON of another kind; expected an export of Label Studio"),
        ("x.json", json.dumps([{"data": {"image": "a.png"}, "predictions": []}]), "no task has an annotation; expected tasks that a person"),
        ("x.json", json.dumps([task([drawn("polygonlabels", "dent", points=[[0, 0], [9, 0], [9, 9]])])]), "the config does not have: dent; it has background, scratch"),
        ("x.json", json.dumps([task([drawn("brushlabels", "scratch", rle=[1, 2])])]), "task 4: its rle ends too early"),
        ("x.json", json.dumps([task([drawn("brushlabels", "scratch", rle=label_studio_rle(np.ones((3, 3), bool)))])]), "expected 1620 of 8 bits"),
        ("x.json", json.dumps([task([drawn("polygonlabels", "scratch", points=[[0, 0], [9, 0], [9, "x"]])])]), "found 'x'; expected a number"),
        ("x.json", json.dumps([task([drawn("polygonlabels", "scratch", points=[[0, 0], [900, 0], [9, 9]])])]), "task 4: its polygon spans x 0 to 243"),
        ("x.json", json.dumps([task([drawn("polygonlabels", "scratch", points=[[0, 0], [9, 0], [9, 9]])], image="q.png")]), "1 annotated image not among the images of train: q.png"),
        ("x.json", json.dumps([{"data": {"text": "so. It is", "n": 3}, "annotations": 5}]), "no task has an annotation"),
        ("x.json", json.dumps([{"data": {"text": "so. It is"}, "annotations": [{"result": 7}]}]), "task 0: its data names no image"),
        ("x.json", json.dumps([task([drawn("polygonlabels", "scratch", points=[[0, 0], [[9], 0], 9])])]), "expected a number"),
        ("x.xml", "<annotations", "not valid XML"),
        ("x.xml", '<!DOCTYPE a [<!ENTITY x "y">]><annotations>&x;</annotations>', "not valid XML"),
        ("x.xml", "<annotation/>", "found the element 'annotation'"),
        ("x.xml", "<annotations><track/></annotations>", "CVAT for video; export the task as"),
        ("x.xml", CVAT.format('<mask label="scratch" rle="1,2" left="0" top="0" width="9" height="9"/>'), "image 'a.png': its runs cover 3 pixels; expected 9 x 9"),
        ("x.xml", CVAT.format('<mask label="scratch" rle="1,2" left="26" top="0" width="3" height="1"/>'), r"its box \(26, 0, 3 x 1\) is not inside the image"),
        ("x.xml", CVAT.replace('"27"', '"99"').format('<polygon label="scratch" points="0,0;9,0;9,9"/>'), "'a.png': it is declared as 99 x 15 px"),
        ("x.xml", CVAT.replace('"27"', '"9e9"').format(""), "the image is '9e9' x '15'; expected whole numbers"),
    ],
)  # fmt: skip
def test_exports_that_cannot_be_used_are_refused_in_one_line(images, tmp_path, name, content, message):
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(DatasetError, match=message) as caught:
        imported(path, images[0])
    assert "\n" not in str(caught.value) and str(caught.value).startswith(str(path))


def test_a_name_that_may_be_two_images_is_refused(images, tmp_path):
    listed, _ = images
    twice = tuple(LabeledImage(f"{f}/a", listed.items[0].path, (1,), (15, 27), "") for f in ("one", "two"))
    both = LabeledImages("train", ClassMap(NAMES), twice, {}, "key")
    path = tmp_path / "x.xml"
    path.write_text(CVAT.format('<box label="scratch" xtl="0" ytl="0" xbr="4" ybr="4"/>'))
    with pytest.raises(DatasetError, match="'a.png' may be one/a, two/a; expected a path that tells them apart"):
        imported(path, both)
    path.write_text(path.read_text().replace('"a.png"', '"photos/two/a.png"'))
    assert list(imported(path, both).marks) == ["two/a"]


def test_an_address_with_a_part_that_is_no_shape_is_no_annotation(tmp_path):
    (tmp_path / "x.json").write_text(json.dumps([task([], was_cancelled=True)]))
    with pytest.raises(DatasetError, match="no task has an annotation"):
        read_annotations(tmp_path / "x.json")
