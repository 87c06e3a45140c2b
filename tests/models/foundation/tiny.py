"""Tiny randomly initialised models, saved in the format of real checkpoints."""

import string
from pathlib import Path

import pytest
import torch

transformers = pytest.importorskip("transformers", reason="pip install 'wsseg[foundation]'")


def save_clip(folder: Path, layers: int = 10, patch: int = 16, side: int = 64) -> Path:
    """Save a CLIP model with its tokenizer (letters only) and its image processor."""
    torch.manual_seed(0)
    tokenizer = letters_tokenizer()
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4, "projection_dim": 24}
    text = {**sizes, "num_hidden_layers": 2, "vocab_size": len(tokenizer)}
    text |= {f"{kind}_token_id": getattr(tokenizer, f"{kind}_token_id") for kind in ("bos", "eos", "pad")}
    vision = {**sizes, "num_hidden_layers": layers, "image_size": side, "patch_size": patch}
    config = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=24)
    model = transformers.CLIPModel(config)
    _spread(model.vision_model, 0.5)  # so that attention is far from uniform
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    transformers.CLIPImageProcessor(size=side, crop_size=side).save_pretrained(folder)
    return folder


def save_sam(folder: Path, side: int = 64) -> Path:
    """Save a SAM model and its image processor: the long side of an image becomes `side` pixels."""
    torch.manual_seed(0)
    vision = {"hidden_size": 16, "output_channels": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    vision |= {"image_size": side, "patch_size": 8, "window_size": 4, "global_attn_indexes": [1], "num_pos_feats": 8}
    vision |= {"mlp_dim": 16, "initializer_range": 0.02}
    prompt = {"hidden_size": 16, "image_size": side, "patch_size": 8, "mask_input_channels": 4}
    config = transformers.SamConfig(
        vision_config=vision, prompt_encoder_config=prompt, mask_decoder_config=_decoder_of_sam()
    )
    _spread(transformers.SamModel(config)).save_pretrained(folder)
    transformers.SamImageProcessor(
        size={"longest_edge": side}, pad_size={"height": side, "width": side}
    ).save_pretrained(folder)
    return folder


def save_sam2(folder: Path, side: int = 64) -> Path:
    """Save a SAM 2 model and its image processor: images are stretched to a square."""
    torch.manual_seed(0)
    backbone = {"hidden_size": 8, "image_size": [side, side], "blocks_per_stage": [1, 2, 1, 1]}
    backbone |= {"embed_dim_per_stage": [8, 16, 32, 64], "num_attention_heads_per_stage": [1, 1, 2, 2]}
    backbone |= {"window_size_per_stage": [4, 2, 2, 2], "global_attention_blocks": [2]}
    backbone |= {"window_positional_embedding_background_size": [4, 4]}
    vision = {"backbone_config": backbone, "backbone_channel_list": [64, 32, 16, 8], "fpn_hidden_size": 16}
    vision |= {"backbone_feature_sizes": [[side // 4] * 2, [side // 8] * 2, [side // 16] * 2]}
    prompt = {"hidden_size": 16, "image_size": side, "patch_size": 16, "mask_input_channels": 4}
    config = transformers.Sam2Config(
        vision_config=vision, prompt_encoder_config=prompt, mask_decoder_config=_decoder_of_sam()
    )
    _spread(transformers.Sam2Model(config)).save_pretrained(folder)
    transformers.Sam2ImageProcessor(size={"height": side, "width": side}).save_pretrained(folder)
    return folder


def save_sam3(folder: Path, side: int = 56) -> Path:
    """Save a SAM 3 model with its tokenizer (letters only) and its processor."""
    torch.manual_seed(0)
    tokenizer = letters_tokenizer()
    cells = side // 14
    backbone = {"model_type": "sam3_vit_model", "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2}
    backbone |= {"num_attention_heads": 2, "image_size": side, "patch_size": 14, "window_size": 2}
    backbone |= {"global_attn_indexes": [1], "pretrain_image_size": side}
    vision = {"backbone_config": backbone, "fpn_hidden_size": 16}
    vision |= {"backbone_feature_sizes": [[4 * cells] * 2, [2 * cells] * 2, [cells] * 2]}
    text = {"model_type": "clip_text_model", "hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2}
    text |= {"num_hidden_layers": 2, "vocab_size": len(tokenizer), "projection_dim": 16, "max_position_embeddings": 32}
    text |= {"eos_token_id": tokenizer.eos_token_id, "bos_token_id": tokenizer.bos_token_id}
    small = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 16, "num_layers": 1}
    config = transformers.Sam3Config(
        vision_config=vision, text_config=text, geometry_encoder_config=small, detr_encoder_config=small,
        detr_decoder_config={**small, "num_queries": 6}, mask_decoder_config={"hidden_size": 16, "num_attention_heads": 2},
    )  # fmt: skip
    _spread(transformers.Sam3Model(config)).save_pretrained(folder)
    processor = transformers.Sam3ImageProcessor(size={"height": side, "width": side})
    transformers.Sam3Processor(processor, tokenizer).save_pretrained(folder)
    return folder


def letters_tokenizer():
    """Return CLIP's tokenizer with letters and punctuation as its vocabulary."""
    letters = [*string.ascii_lowercase, *string.punctuation]
    vocabulary = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    return transformers.CLIPTokenizer(vocab={token: i for i, token in enumerate(vocabulary)}, merges=[])


def _decoder_of_sam() -> dict[str, int]:
    return {"hidden_size": 16, "mlp_dim": 16, "num_attention_heads": 2, "iou_head_hidden_dim": 16}


def _spread(model, amount: float = 0.15):
    """Return a model with larger random weights: the usual ones of so narrow a network give almost equal outputs."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(amount * torch.randn_like(parameter))
    return model


def save_dino(folder: Path, kind: str) -> Path:
    """Save a model of type dinov2, dinov2_with_registers or dinov3_vit (patch of 16 px) and its image processor."""
    torch.manual_seed(0)
    values = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "image_size": 64, "patch_size": 16}
    if kind != "dinov2":
        values["num_register_tokens"] = 4
    if kind == "dinov3_vit":
        values["intermediate_size"] = 48
    config = transformers.AutoConfig.for_model(kind, **values)
    _spread(transformers.AutoModel.from_config(config)).save_pretrained(folder)
    name = "DINOv3ViTImageProcessor" if kind == "dinov3_vit" else "BitImageProcessor"
    cls = getattr(transformers, name, None) or getattr(transformers, f"{name}Fast")
    cls(size={"height": 64, "width": 64}).save_pretrained(folder)
    return folder
