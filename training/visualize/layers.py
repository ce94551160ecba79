"""What the layers of any backbone say, and where in space and time an answer comes from."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from pclkd.training.models.base import Backbone
from pclkd.training.models.memory_layout import arranged

__all__ = ["EMBEDDING", "FEATURES", "LayerFeatures", "grad_cam", "located", "recorded"]

FEATURES, EMBEDDING = "features", "embedding"
"""What the whole backbone says, and what its projector makes of it."""
_LEAST_PLACES = 4

Maps = dict[str, torch.Tensor]


@contextmanager
def recorded(backbone: nn.Module) -> Iterator[Maps]:
    """Within the block a forward of the backbone fills this with maps [N, C, T, H, W] by layer, in their order.

    Layers are the parts of the backbone; of several that follow each other with maps of one shape (a convolution, its
    batch norm) the last one stands for all. Maps are what is passed on, after a ReLU that works in place.
    """
    maps: Maps = {}
    handles = []

    def keep(name: str) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            if isinstance(output, torch.Tensor) and output.ndim == 5:
                before = next(reversed(maps), None)
                if before is not None and maps[before].shape == output.shape:
                    del maps[before]
                maps.pop(name, None)  # a part that is used again stands where it was used last
                maps[name] = output

        return hook

    for name, part in _parts(backbone).items():
        handles.append(part.register_forward_hook(keep(name)))
    try:
        yield maps
    finally:
        for handle in handles:
            handle.remove()


def _parts(network: nn.Module) -> dict[str, nn.Module]:
    """The parts of a network; where it has but one, the parts of that."""
    parts = dict(network.named_children())
    while len(parts) == 1:
        ((name, only),) = parts.items()
        inner = {f"{name}.{part}": module for part, module in only.named_children()}
        if not inner:
            break
        parts = inner
    return parts


class LayerFeatures(nn.Module):
    """Stands where a network stands in an evaluation, and describes clips by all its layers at once.

    Args:
        backbone: the network.
        projector: features [N, F] -> embeddings [N, D], if they are wanted as well.
    """

    def __init__(self, backbone: Backbone, projector: nn.Module | None = None) -> None:
        super().__init__()
        self.backbone, self.projector = backbone, projector
        self._sizes: dict[str, int] = {}

    def features(self, clips: torch.Tensor) -> torch.Tensor:
        """[B, V, C, T, H, W] -> [B, V, all channels]: the mean of each map, the features, the embedding."""
        with recorded(self.backbone) as maps:
            features = self.backbone(arranged(clips, self.backbone).flatten(0, 1)).float()
        found = {name: layer.float().mean(dim=(2, 3, 4)) for name, layer in maps.items()}
        last = next(reversed(found), "")
        if last and found[last].shape == features.shape and torch.allclose(found[last], features, rtol=0.02, atol=1e-3):
            del found[last]  # the features are its mean
        found[FEATURES] = features
        if self.projector is not None:
            found[EMBEDDING] = self.projector(features)
        self._sizes = {name: said.shape[1] for name, said in found.items()}
        return torch.cat(list(found.values()), dim=1).reshape(*clips.shape[:2], -1)

    def by_layer(self, features: torch.Tensor) -> Maps:
        """[N, all channels], as `features` gives them, -> [N, C] by layer, in their order."""
        return dict(zip(self._sizes, torch.split(features, list(self._sizes.values()), dim=1), strict=True))


def located(maps: Maps) -> str:
    """The deepest layer that still tells places and times apart; the finest one where none has 4 x 4 x 4.

    Raises:
        KeyError: no maps.
    """
    sizes = {name: layer.shape[2:] for name, layer in maps.items()}
    fine = [name for name, size in sizes.items() if min(size) >= _LEAST_PLACES]
    return fine[-1] if fine else max(sizes, key=lambda name: sizes[name].numel())


def grad_cam(maps: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
    """Where in space and time maps speak for a score: ReLU of the sum of the channels, each by its mean gradient.

    Source: Selvaraju et al., "Grad-CAM", arXiv 1610.02391, with time as a third axis.

    Args:
        maps: [N, C, T, H, W], of a forward that recorded gradients.
        scores: [N], each of its own sample alone (a network in eval mode).

    Returns:
        [N, T, H, W], not negative.
    """
    (gradient,) = torch.autograd.grad(scores.sum(), maps)
    # n = sample, c = channel, t, h, w = place of the map
    return F.relu(torch.einsum("nc,ncthw->nthw", gradient.mean(dim=(2, 3, 4)), maps.detach()))
