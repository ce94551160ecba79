"""Trained networks for other programs: a run in; a backbone, safetensors, ONNX, or clips of any video out."""
