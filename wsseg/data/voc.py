"""Files of VOC devkits as the challenge, labelImg, CVAT and Roboflow write them: image lists, annotations, label maps."""

import re
from collections.abc import Container
from pathlib import Path
from xml.etree.ElementTree import ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import parse as parse_xml

from wsseg.data.reading import IMAGE_SUFFIXES
from wsseg.errors import DatasetError
from wsseg.files import open_file
from wsseg.names import check_id, composed, printable

_SETS = ("Segmentation", "Main", ".")  # folders below ImageSets, in the order in which a list is looked for
_LABEL = re.compile(r"\s+-?[01]$")  # of a class's own list: 1 it is there, 0 only difficult ones, -1 it is not


def list_file(root: Path, name: str) -> Path:
    """Return the file of an image list: that of ImageSets/Segmentation, else of ImageSets/Main, else of ImageSets.

    Raises:
        DatasetError: there is none; the lists that are there are named.
    """
    sets = root / "ImageSets"
    for folder in _SETS:
        if (path := sets / folder / f"{name}.txt").is_file():
            return path
    there = sorted({path.stem for folder in _SETS for path in (sets / folder).glob("*.txt")})
    raise DatasetError(
        f"{sets}: no list {name}.txt in Segmentation or Main; found: {', '.join(map(printable, there[:20])) or 'no list'}"
    )


def listed_ids(text: str, where: str, images: Container[str]) -> list[str]:
    """Return the image ids of a list, each once, in its order.

    A line holds an id, and may have a label behind it (``a 1``, ``a -1``), a suffix, a path (``JPEGImages/a.jpg``), and
    the path of a mask behind that.

    Args:
        text: the whole list.
        where: its file, for messages.
        images: the ids of the images that are there; they decide if a line can be understood in several ways.

    Raises:
        DatasetError: a line that cannot be an id.
    """
    ids: dict[str, None] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not (line := line.strip().replace("\\", "/")):
            continue
        forms = [line, _LABEL.sub("", line), line.split()[0]]
        candidates = [candidate for form in forms for candidate in _names_of(form)]
        chosen = next((candidate for candidate in candidates if composed(candidate) in images), None)
        if chosen is None:  # its image is missing: the plainest form names it
            chosen = _names_of(forms[1] if "/" not in line else forms[2])[-1]
        ids[check_id(chosen, f"{where}: line {number}")] = None
    return list(ids)


def _names_of(text: str) -> list[str]:
    """Return what may be the id in one word of a list: as it stands, below JPEGImages, without suffix."""
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
        DatasetError: it cannot be read, is no XML, or has an object without a name.
    """
    try:
        with open_file(path) as file:
            objects = list(parse_xml(file).iter("object"))
    except OSError as error:
        raise DatasetError(
            f"{path}: cannot be read ({error.strerror}); set data.labels to a CSV if there is no XML"
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


def label_map(text: str, where: str) -> dict[str, tuple[int, int, int] | None]:
    """Return the classes of a ``labelmap.txt`` (CVAT, Datumaro) in the order of their mask values, with their colours.

    A line is ``NAME:R,G,B:PARTS:ACTIONS``; lines that begin with # are comments. The background, value 0, is included.

    Raises:
        DatasetError: a line of another form, or a name that stands twice.
    """
    found: dict[str, tuple[int, int, int] | None] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        match = re.fullmatch(r"(.+?):\s*(?:(\d{1,3})\s*,\s*(\d{1,3})\s*,\s*(\d{1,3}))?\s*:[^:]*:[^:]*", line.strip())
        name = composed(match[1].strip()) if match else ""
        if match is None or name in found or any(int(v) > 255 for v in match.groups()[1:] if v):
            raise DatasetError(f"{where}: line {number}: found {line[:60]!r}; expected NAME:R,G,B:: and each name once")
        found[name] = (int(match[2]), int(match[3]), int(match[4])) if match[2] else None
    return found
