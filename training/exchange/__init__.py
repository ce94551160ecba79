"""Trained networks for other programs, a run in: backbones, safetensors, ONNX; features and actions of any video."""
