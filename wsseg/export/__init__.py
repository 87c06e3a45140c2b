"""Export: networks as ONNX, TorchScript or torch.export files, masks as annotation files of other tools."""
