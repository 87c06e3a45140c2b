"""Files of VOC devkits, as the challenge, labelImg, CVAT and Roboflow write them: image lists, annotations, label maps."""

import re
from collections import Counter
from collections.abc import Container
from pathlib import Path
from xml.etree.ElementTree import ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import parse as parse_xml

from wsseg.data.config import VocData
from wsseg.data.mask_colors import Color, MaskColors
from wsseg.data.reading import IMAGE_SUFFIXES
from wsseg.data.text_files import read_text
from wsseg.errors import DatasetError, listed
from wsseg.files import open_file
from wsseg.labels import BACKGROUND, VOC_CLASSES
from wsseg.names import check_id, composed, printable

_SETS = ("Segmentation", "Main", ".")  # folders of ImageSets, in the order in which they are searched for a list
_LABEL_MAP = "labelmap.txt"
_LABEL = re.compile(r"\s+-?[01]$")  # in the list of a class: 1 present, 0 only difficult objects, -1 absent


def list_file(root: Path, name: str) -> Path:
    """Return the file of an image list, from ImageSets/Segmentation, ImageSets/Main or ImageSets, in this order.

    Raises:
        DatasetError: there is no such list; the message names the existing ones.
    """
    sets = root / "ImageSets"
    for folder in _SETS:
        if (path := sets / folder / f"{name}.txt").is_file():
            return path
    names = sorted({path.stem for folder in _SETS for path in (sets / folder).glob("*.txt")})
    raise DatasetError(
        f"{sets}: no list {name}.txt in Segmentation or Main; found: {', '.join(map(printable, names[:20])) or 'no list'}"
    )


def listed_ids(text: str, where: str, images: Container[str]) -> list[str]:
    """Return the image ids of a list, each once, in the order of the list.

    A line holds an id, which may have a suffix or a path (``JPEGImages/a.jpg``). A label (``a 1``, ``a -1``) or the path of
    a mask may follow.

    Args:
        text: content of the list.
        where: its file, for messages.
        images: ids of the existing images; they decide if a line can be read in several ways.

    Raises:
        DatasetError: a line cannot be an id.
    """
    ids: dict[str, None] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not (line := line.strip().replace("\\", "/")):
            continue
        forms = [line, _LABEL.sub("", line), line.split()[0]]
        candidates = [candidate for form in forms for candidate in _names_of(form)]
        chosen = next((candidate for candidate in candidates if composed(candidate) in images), None)
        if chosen is None:  # its image is missing: take the plainest form
            chosen = _names_of(forms[1] if "/" not in line else forms[2])[-1]
        ids[check_id(chosen, f"{where}: line {number}")] = None
    return list(ids)


def _names_of(text: str) -> list[str]:
    """Return the possible ids in one word of a list: the word, its path below JPEGImages, and that without suffix."""
    text = text.removeprefix("./")
    below = text.rpartition("JPEGImages/")[2]
    stem, dot, suffix = below.rpartition(".")
    return [text, below, *([stem] if f"{dot}{suffix}".lower() in IMAGE_SUFFIXES else [])]


def annotated_classes(path: Path, difficult: bool) -> frozenset[str]:
    """Return the class names of the objects in an annotation.

    Args:
        path: the XML file.
        difficult: whether objects marked `difficult` count.

    Raises:
        DatasetError: the file cannot be read, is not XML, or has an object without a name.
    """
    try:
        with open_file(path) as file:
            objects = list(parse_xml(file).iter("object"))
    except OSError as error:
        raise DatasetError(
            f"{path}: cannot be read ({error.strerror}); without XML files, set data.labels to a CSV"
        ) from error
    except (ParseError, DefusedXmlException, ValueError, LookupError) as error:
        raise DatasetError(f"{path}: not a VOC annotation: {error or type(error).__name__}") from error
    names = {
        composed((o.findtext("name") or "").strip())
        for o in objects
        if difficult or (o.findtext("difficult") or "0").strip().lower() not in ("1", "true")
    }
    if "" in names:
        raise DatasetError(f"{path}: an object has no name; expected <name>CLASS</name> in each <object>")
    return frozenset(names)


def label_map(text: str, where: str) -> dict[str, Color | None]:
    """Return the colours of a ``labelmap.txt`` (CVAT, Datumaro) by class name, in the order of the mask values.

    A line is ``NAME:R,G,B:PARTS:ACTIONS``; lines that start with # are comments. The background, value 0, is included.

    Args:
        text: content of the file.
        where: the file, for messages.

    Returns:
        (R, G, B) from 0 to 255, or None if the line states no colour.

    Raises:
        DatasetError: a line of another form, or a name that occurs twice.
    """
    colors: dict[str, Color | None] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        match = re.fullmatch(r"(.+?):\s*(?:(\d{1,3})\s*,\s*(\d{1,3})\s*,\s*(\d{1,3}))?\s*:[^:]*:[^:]*", line.strip())
        name = composed(match[1].strip()) if match else ""
        if match is None or name in colors or any(int(v) > 255 for v in match.groups()[1:] if v):
            raise DatasetError(f"{where}: line {number}: found {line[:60]!r}; expected NAME:R,G,B:: and each name once")
        colors[name] = (int(match[2]), int(match[3]), int(match[4])) if match[2] else None
    return colors


def voc_names(data: VocData, label_names: frozenset[str]) -> tuple[str, ...]:
    """Return the classes of a devkit in the order of their mask values.

    They come from ``data.mask_classes``, from ``labelmap.txt``, or from VOC itself, in this order.

    Args:
        data: the config.
        label_names: class names in the labels. If none of the three sources applies, these are the classes, sorted; then
            the meaning of mask values is not known.

    Raises:
        DatasetError: the labels hold classes that ``data.mask_classes`` or ``labelmap.txt`` does not name.
    """
    names, where = data.mask_classes, "data.mask_classes"
    if not names and (path := data.root / _LABEL_MAP).is_file():
        names, where = (
            tuple(name for name in label_map(read_text(path), str(path)) if not _is_background(name)),
            str(path),
        )
    if names and (unknown := sorted(label_names - set(names))):
        raise DatasetError(
            f"the labels hold classes that {where} does not name: {listed(unknown)}; it names {', '.join(names)}"
        )
    return names or (VOC_CLASSES if label_names <= set(VOC_CLASSES) else tuple(sorted(label_names)))


def mask_colors(data: VocData) -> MaskColors | None:
    """Return the mask value of each colour of ``labelmap.txt``.

    None if there is no such file, if it states no colour, or if ``data.mask_classes`` states the mask values. A colour that
    two classes share is left out.
    """
    path = data.root / _LABEL_MAP
    if data.mask_classes or not path.is_file():
        return None
    colors = label_map(read_text(path), str(path))
    names = [name for name in colors if not _is_background(name)]
    shared = {color for color, count in Counter(colors.values()).items() if count > 1}
    values = {
        color: BACKGROUND if _is_background(name) else names.index(name) + 1
        for name, color in colors.items()
        if color is not None and color not in shared
    }
    return MaskColors(values, _LABEL_MAP) if values else None


def _is_background(name: str) -> bool:
    return name.lower() == "background"
