"""Commands that use a trained network or its masks."""

from wsseg.cli.use import MASK_FORMATS, NETWORK_FORMATS, predict
from wsseg.crf.settings import PRESETS
from wsseg.export.masks import WRITERS
from wsseg.export.networks import SUFFIXES
from wsseg.stages.predict_masks.config import Config


def test_predict_has_the_defaults_of_the_stage():
    defaults = {option.name: option.default for option in predict.params}
    for name in ("scales", "flip", "crf"):
        assert defaults[name] == getattr(Config(), name)


def test_predict_offers_all_crf_presets():
    (crf,) = [option for option in predict.params if option.name == "crf"]
    assert tuple(crf.type.choices) == (*PRESETS, "off")


def test_export_offers_all_formats():
    assert set(NETWORK_FORMATS) == set(SUFFIXES) and set(MASK_FORMATS) == set(WRITERS)
