"""torchvision's video networks as backbones: their own layers and state-dict keys, without the classifier.

Sources: torchvision.models.video; Tran et al., arXiv 1711.11248 (r3d_18, mc3_18, r2plus1d_18); Xie et al.,
arXiv 1712.04851 (s3d).
"""

import torch
from torch import nn

from pclkd.sharding.common.errors import InputError
from pclkd.training.models.base import MappingBackbone

__all__ = ["TORCHVISION_NAMES", "TorchvisionBackbone"]

TORCHVISION_NAMES = ("r3d_18", "mc3_18", "r2plus1d_18", "s3d")
_STAGES = ("stem", "layer1", "layer2", "layer3", "layer4")
_CLASSIFIERS = ("fc.", "classifier.")


class TorchvisionBackbone(MappingBackbone):
    """One of torchvision's video networks; its weights start as torchvision draws them.

    Args:
        name: one of TORCHVISION_NAMES.
        width: must be 1: torchvision has no narrower ones.

    Raises:
        InputError: another width.
    """

    def __init__(self, name: str, width: float = 1.0) -> None:
        super().__init__()
        self.trunk: nn.Module
        if width != 1:
            raise InputError(
                f"backbone width {width} of torchvision's {name}",
                remedy="use width 1, or c3d, r3d, r2plus1d, r3d18 or r2plus1d18, which scale",
            )
        from torchvision.models import video

        network: nn.Module = getattr(video, name)(weights=None)
        if name == "s3d":
            # Its pooling window fits 224 x 224 clips alone; the mean over what is left is the same there.
            self.trunk = network.get_submodule("features")
            self.feature_dim, self.least_frames = 1024, 8
        else:
            self.trunk = nn.Sequential(*(network.get_submodule(stage) for stage in _STAGES))
            self.feature_dim = 512
        self.name = name

    def maps(self, clips: torch.Tensor) -> torch.Tensor:
        """Of the last stage [N, feature_dim, t, h, w]."""
        maps: torch.Tensor = self.trunk(clips)
        return maps

    def load_torchvision(self, state: dict[str, torch.Tensor]) -> None:
        """Take the weights of torchvision's own state dict; the classifier's are left aside.

        Raises:
            RuntimeError: missing or unexpected keys, or other shapes, as torch lists them.
        """
        own_key = {self.torchvision_key(key): key for key in self.state_dict()}
        self.load_state_dict(
            {own_key.get(key, key): value for key, value in state.items() if not key.startswith(_CLASSIFIERS)}
        )

    def torchvision_key(self, key: str) -> str:
        """What torchvision calls the weight that this module's state dict has under `key`."""
        number, _, rest = key.removeprefix("trunk.").partition(".")
        return f"features.{number}.{rest}" if self.name == "s3d" else f"{_STAGES[int(number)]}.{rest}"
