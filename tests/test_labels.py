import numpy as np
import pytest

from wsseg.errors import ConfigError, nearest
from wsseg.labels import ClassMap, voc_palette


def test_the_palette_equals_that_of_the_voc_devkit():
    palette = voc_palette()
    assert palette.shape == (256, 3) and palette.dtype == np.uint8
    # VOCcolormap.m: background, aeroplane, bicycle, person, tvmonitor, void
    expected = {
        0: (0, 0, 0),
        1: (128, 0, 0),
        2: (0, 128, 0),
        15: (192, 128, 128),
        20: (0, 64, 128),
        255: (224, 224, 192),
    }
    assert {i: tuple(int(v) for v in palette[i]) for i in expected} == expected


def test_ids_names_and_channels_agree():
    classes = ClassMap(("cat", "dog"))
    assert classes.id_of("dog") == 2
    assert classes.with_background == ("background", "cat", "dog")
    assert classes.names_of([0, 2]) == ["background", "dog"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ((), "found 0 names"),
        (("a", "a"), "'a' is listed twice"),
        (("background",), "always has class id 0"),
        (("a\nb",), r"cannot be a class name: it contains U\+000A"),
        ((" ",), "a class name is empty"),
        (tuple(map(str, range(255))), "found 255 names"),
    ],
)
def test_invalid_names_are_refused(names, message):
    with pytest.raises(ConfigError, match=message):
        ClassMap(names)


def test_usual_names_are_accepted():
    names = ("defect: red", "no-break\u00a0space", "👩\u200d🔬", "é")
    assert ClassMap(names).names == names


def test_an_unknown_name_gets_a_suggestion():
    with pytest.raises(ConfigError, match="did you mean 'scratch'"):
        ClassMap(("patch", "scratch")).id_of("scrath")
    assert nearest("xyz", ["abc"]) == ""
