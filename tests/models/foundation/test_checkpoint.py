import json
import shutil

import pytest
import safetensors.torch
import torch

from wsseg.config import hashed
from wsseg.errors import ConfigError, MissingExtraError, StageError
from wsseg.models.foundation import checkpoint as module
from wsseg.models.foundation.checkpoint import Checkpoint, check_checkpoint, load_model


@pytest.mark.parametrize(
    ("values", "message"),
    [({}, "requires folder"), ({"weights": "hub"}, "requires name")],
)
def test_a_checkpoint_names_its_source(values, message):
    with pytest.raises(ConfigError, match=message):
        Checkpoint(**values)


def test_the_key_holds_the_content_of_the_folder(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    before = hashed(Checkpoint(folder=tmp_path))["folder"]
    (tmp_path / ".cache").write_text("not read")
    copied = shutil.copytree(tmp_path, tmp_path / "other")
    assert hashed(Checkpoint(folder=tmp_path))["folder"] == before == hashed(Checkpoint(folder=copied))["folder"]
    (tmp_path / "config.json").write_text("{ }")
    assert hashed(Checkpoint(folder=tmp_path))["folder"] != before


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "has no config.json; expected: a folder with a checkpoint"),
        ("[", "describes no model of transformers"),
        ("[1]", "describes no model of transformers"),
        ('{"model_type": "bert"}', "holds a model of type 'bert'; expected: clip"),
        ('{"model_type": "clip"}', "has no .safetensors file"),
    ],
)
def test_a_wrong_folder_gives_one_line(tmp_path, text, message, monkeypatch):
    monkeypatch.setattr(module, "find_spec", lambda name: object())
    if text is not None:
        (tmp_path / "config.json").write_text(text)
    with pytest.raises(StageError, match=message) as caught:
        check_checkpoint(Checkpoint(folder=tmp_path), "seeds.clip", ("clip",), "clip")
    assert "\n" not in str(caught.value) and "seeds.clip.folder" in str(caught.value)


def test_no_checkpoint_and_no_package(monkeypatch, tmp_path):
    with pytest.raises(StageError, match=r"requires the table \[seeds.clip\]"):
        check_checkpoint(None, "seeds.clip", ("clip",), 'seeds.method = "clip"')
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'wsseg\[foundation\]'"):
        check_checkpoint(Checkpoint(folder=tmp_path), "seeds.clip", ("clip",), "clip")


def test_weights_that_lack_tensors_are_refused(clip_folder, tmp_path):
    """Transformers would fill them with random values."""
    folder = shutil.copytree(clip_folder, tmp_path / "clip")
    state = safetensors.torch.load_file(folder / "model.safetensors")
    del state["visual_projection.weight"]
    safetensors.torch.save_file(state, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(StageError, match=r"lack 1 tensors of CLIPModel, such as visual_projection.weight"):
        load_model(Checkpoint(folder=folder), "CLIPModel")


def test_damaged_weights_and_pickles_are_refused(clip_folder, tmp_path):
    folder = shutil.copytree(clip_folder, tmp_path / "clip")
    (folder / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(StageError, match="cannot load CLIPModel") as caught:
        load_model(Checkpoint(folder=folder), "CLIPModel")
    assert "\n" not in str(caught.value)
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")
    with pytest.raises(StageError, match="cannot load CLIPModel"):
        load_model(Checkpoint(folder=folder), "CLIPModel")


def test_a_folder_is_never_looked_up_on_the_hub(clip_folder, tmp_path):
    folder = tmp_path / "clip"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "clip"}))
    with pytest.raises(StageError, match="cannot load CLIPModel"):
        load_model(Checkpoint(folder=folder), "CLIPModel")
