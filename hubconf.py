"""torch.hub: `torch.hub.load("OWNER/REPOSITORY", "backbone", "exported")`; what pclkd needs must be installed.

torch.hub gives the code of a repository, not its installation: the folders are put under the name they install under.
"""

import sys
import types
from pathlib import Path
from typing import Any

dependencies = ["torch", "torchvision", "numpy", "pydantic", "safetensors", "fsspec", "lazy_loader", "av"]

if "pclkd" not in sys.modules:
    sys.modules["pclkd"] = _package = types.ModuleType("pclkd")
    _package.__path__ = [str(Path(__file__).resolve().parent)]


def backbone(weights: str, key: str = "") -> Any:
    """A trained backbone in eval mode: [N, 3, T, H, W] normalised clips -> [N, feature_dim].

    Args:
        weights: what `pclkd.training.load_backbone` takes: an exported folder, hf:user/name, a run, a file.
        key: which network of several in a file of weights.
    """
    from pclkd.training import load_backbone

    return load_backbone(weights, key)


def untrained(name: str = "r3d", width: float = 1.0) -> Any:
    """A backbone with fresh weights; `train-kd models` lists the names."""
    from pclkd.training.models.registry import build_backbone

    return build_backbone(name, width)
