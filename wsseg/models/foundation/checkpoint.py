"""Checkpoints of foundation models in the format of Hugging Face transformers, read from a folder or from the hub."""

import json
from collections.abc import Collection
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from wsseg.config import setting
from wsseg.errors import ConfigError, MissingExtraError, StageError, explained, extra
from wsseg.files import open_file

# values of ``model_type`` in config.json; published checkpoints of SAM 2 and SAM 3 are those of their video models
CLIP_KINDS = ("clip",)
DINO_KINDS = ("dinov2", "dinov2_with_registers", "dinov3_vit")
SAM_KINDS = ("sam", "sam2", "sam2_video")
SAM3_KINDS = ("sam3", "sam3_video")


@dataclass(frozen=True)
class Checkpoint:
    """Where a foundation model comes from.

    Args:
        weights: ``file`` (the files in `folder`) or ``hub`` (`name` on the Hugging Face hub, downloaded).
        folder: folder with config.json, safetensors files, and the files of the preprocessor and the tokenizer; required by
            ``weights = "file"``. Its content is part of the artifact's key.
        name: repository on the hub, such as openai/clip-vit-base-patch16; required by ``weights = "hub"``.
        revision: commit or branch on the hub. The artifact's key contains this word, so name a commit if results must be
            reproducible.
    """

    weights: Literal["file", "hub"] = setting("file")
    folder: Path | None = setting(None)
    name: str | None = setting(None)
    revision: str = setting("main")

    def __post_init__(self) -> None:
        if self.weights == "file" and self.folder is None:
            raise ConfigError('weights = "file" requires folder, a downloaded checkpoint with config.json')
        if self.weights == "hub" and self.name is None:
            raise ConfigError('weights = "hub" requires name, such as "openai/clip-vit-base-patch16"')

    @property
    def source(self) -> str:
        """The folder, or the name on the hub."""
        return str(self.folder) if self.weights == "file" else str(self.name)


def check_checkpoint(checkpoint: Checkpoint | None, key: str, kinds: Collection[str], purpose: str) -> None:
    """Check a checkpoint without loading it; nothing is downloaded, so a model of the hub is not checked.

    Args:
        checkpoint: the checkpoint, or None if the config has none.
        key: its dotted key in the config.
        kinds: accepted values of ``model_type`` in config.json.
        purpose: what needs the checkpoint, for messages.

    Raises:
        MissingExtraError: transformers is not installed.
        StageError: there is no checkpoint, its files are missing, or it is another kind of model.
    """
    if checkpoint is None:
        raise StageError(f"{purpose} requires the table [{key}] with a checkpoint; see docs/howto/foundation.md")
    if find_spec("transformers") is None:
        raise MissingExtraError(f"{purpose}: transformers is not installed; run: pip install 'wsseg[foundation]'")
    if checkpoint.folder is None or checkpoint.weights == "hub":
        return
    try:
        with open_file(checkpoint.folder / "config.json") as file:
            values = json.loads(file.read(1_000_000))
        kind = values["model_type"]
    except FileNotFoundError as error:
        raise StageError(
            f"{key}.folder: {checkpoint.folder} has no config.json; expected: a folder with a checkpoint of transformers"
        ) from error
    except (OSError, ValueError, RecursionError, KeyError, TypeError) as error:
        raise StageError(f"{key}.folder: {checkpoint.folder}/config.json describes no model of transformers") from error
    if kind not in kinds:
        raise StageError(
            f"{key}.folder: {checkpoint.folder} holds a model of type {kind!r}; expected: {', '.join(sorted(kinds))}"
        )
    if not any(checkpoint.folder.glob("*.safetensors")):
        raise StageError(
            f"{key}.folder: {checkpoint.folder} has no .safetensors file; other formats of weights are not read"
        )


def load_model(checkpoint: Checkpoint, cls: str, eager: bool = False) -> Any:
    """Load a model in float32 and eval mode; only safetensors are read, and only ``weights = "hub"`` downloads.

    Args:
        checkpoint: the checkpoint.
        cls: name of the class in transformers.
        eager: compute attention without fused kernels, which return no attention weights.

    Raises:
        MissingExtraError: transformers is not installed.
        StageError: the checkpoint cannot be read or downloaded, or lacks tensors of the model.
    """
    import torch

    options: dict[str, Any] = {"attn_implementation": "eager"} if eager else {}
    model, info = _from_pretrained(
        checkpoint, cls, dtype=torch.float32, use_safetensors=True, output_loading_info=True, **options
    )
    missing = sorted(info["missing_keys"])
    if missing:  # transformers fills them with random values
        raise StageError(
            f"{checkpoint.source}: the weights lack {len(missing)} tensors of {cls}, such as {missing[0]}; "
            "expected: a complete checkpoint"
        )
    if eager and model.config._attn_implementation != "eager":
        raise StageError(f"{checkpoint.source}: {cls} does not compute attention weights")
    return model.requires_grad_(False).eval()


def model_type(checkpoint: Checkpoint) -> str:
    """Return the ``model_type`` of a checkpoint, such as ``sam2``; errors are those of `load_model`."""
    return str(_from_pretrained(checkpoint, "AutoConfig").model_type)


def load_part(checkpoint: Checkpoint, cls: str) -> Any:
    """Load a tokenizer, an image processor or a processor by the name of its class; errors are those of `load_model`."""
    return _from_pretrained(checkpoint, cls)


def _from_pretrained(checkpoint: Checkpoint, cls: str, **options: Any) -> Any:
    with extra("foundation", cls):
        import transformers
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    if checkpoint.weights == "file":
        options |= {"local_files_only": True}
    else:
        options |= {"revision": checkpoint.revision}
    try:
        return getattr(transformers, cls).from_pretrained(checkpoint.source, trust_remote_code=False, **options)
    except ImportError as error:
        raise MissingExtraError(
            f"{checkpoint.source}: {str(error).strip().splitlines()[0]}; run: pip install 'wsseg[foundation]'"
        ) from error
    except Exception as error:  # damaged files raise errors of many libraries
        if explained(error) and not isinstance(error, OSError):  # caused by the machine, such as a lack of memory
            raise
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise StageError(f"{checkpoint.source}: cannot load {cls}: {reason}") from error
