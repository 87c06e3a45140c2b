"""Foundation models of Hugging Face transformers: CLIP, DINOv2 and DINOv3, SAM, SAM 2 and SAM 3 (extra ``foundation``)."""
