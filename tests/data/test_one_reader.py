"""Only the reader decodes images: the source of the package is searched for other decoders."""

import ast
import re
from pathlib import Path

import pytest

import wsseg

PACKAGE = Path(wsseg.__file__).parent
READER = PACKAGE / "data" / "reading.py"
DECODERS = {"imread", "imreadmulti", "imdecode", "imdecodemulti", "decode_image", "decode_jpeg", "decode_png", "imopen"}
LIBRARIES = (
    "imageio", "tifffile", "skimage.io", "matplotlib.image", "torchvision.io", "torchvision.datasets", "rasterio", "png",
)  # fmt: skip


def other_decoders(source):
    """Return the calls and imports in some source that can decode images, except PNG files of wsseg itself, from bytes."""
    decoders = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            formats = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}.get("formats")
            is_own_png = formats == "('PNG',)" and ast.unparse(node.args[0]).startswith("io.BytesIO(")
            if name.rpartition(".")[2] in DECODERS or (name.endswith("Image.open") and not is_own_png):
                decoders.append(ast.unparse(node))
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
        if isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{name}" for name in names]
            decoders += [name for name in names if name in ("PIL.Image.open", "PIL.Image.Image.open")]
        decoders += [name for name in names if any(f"{name}.".startswith(f"{library}.") for library in LIBRARIES)]
    return decoders


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_only_the_reader_decodes_images(path):
    assert path == READER or other_decoders(path.read_text(encoding="utf-8")) == []


def test_photographs_of_a_data_set_are_compared_with_their_digest():
    """`read_image` takes any file; stages, trainings, audits and reports read `LabeledImage` by `read_photograph`."""
    any_file = {PACKAGE / "api.py", PACKAGE / "data" / "demo.py", PACKAGE / "data" / "photographs.py", READER}
    users = {path for path in PACKAGE.rglob("*.py") if re.search(r"\bread_image\b", path.read_text(encoding="utf-8"))}
    assert users <= any_file


@pytest.mark.parametrize(
    "source",
    [
        "with PILImage.open(path) as image: pass", "Image.open(io.BytesIO(data))", "cv2.imread('x.png', -1)",
        "PIL.Image.open(path, formats=('PNG',))", "from PIL.Image import open", "import imageio.v3 as iio",
        "from skimage import io", "from torchvision.io import read_image", "cv2.imdecode(data, 1)",
    ],
)  # fmt: skip
def test_the_search_finds_other_decoders(source):
    assert other_decoders(source)
