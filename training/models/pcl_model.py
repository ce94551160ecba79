"""A backbone with the two heads of Pretext-Contrastive Learning.

Source: PCL, arXiv 2010.15464. Module names and shapes are those of its published checkpoints.
"""

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Literal, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import nn

from pclkd.pipeline.pretext.base import TUPLE_VIEWS
from pclkd.training.models.base import Backbone
from pclkd.training.models.learner_heads import LEARNER_HEADS
from pclkd.training.models.memory_layout import arranged

__all__ = ["FIRST", "THIRD", "PclModel", "PclOutput"]

PretextHead = Literal["linear", "compare"]
FIRST, THIRD = 0, TUPLE_VIEWS - 1
"""The clips that contrast compares; the pretext task may have changed those between them."""


class PclOutput(NamedTuple):
    """What the network says about B samples. All float32, whatever autocast does.

    A tuple of tensors, so that DistributedDataParallel finds them.
    """

    features: torch.Tensor
    """[B, V, F], of the backbone."""
    pretext_logits: torch.Tensor
    """[B, pretext classes]."""
    first: torch.Tensor
    """[B, D], L2-normalised embedding of the first clip."""
    third: torch.Tensor
    """[B, D], L2-normalised embedding of the third clip."""
    adapted: tuple[torch.Tensor, ...] = ()
    """[B, V, F_t] for each teacher whose features are to be matched."""
    projected: tuple[torch.Tensor, ...] = ()
    """[B, D] each, what first and third were before they were normalised; of learners whose heads say so alone."""
    predicted: tuple[torch.Tensor, ...] = ()
    """[B, D] each, the predictor's answers to them."""
    adapted_grids: tuple[torch.Tensor, ...] = ()
    """[B, V, C_t, t, h, w] for each teacher whose local features are to be matched."""
    grid: tuple[torch.Tensor, ...] = ()
    """[B, V, C, t, h, w], its own local features, once where `gives_grid`."""


class _Projector(nn.Module):
    """Linear, ReLU, Linear, then L2."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(before, before), nn.ReLU(inplace=True), nn.Linear(before, after))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return F.normalize(self.mlp(features), dim=-1)


class _ComparingHead(nn.Module):
    """Pretext classes from the clips' features and from how far those of every two clips lie apart; one hidden layer.

    A linear head weighs what each clip looks like by itself; that one clip is unlike its neighbours it cannot say.
    """

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self._pairs = tuple(combinations(range(TUPLE_VIEWS), 2))
        self.mlp = nn.Sequential(
            nn.Linear((TUPLE_VIEWS + len(self._pairs)) * features, features, bias=False),
            nn.BatchNorm1d(features),
            nn.ReLU(inplace=True),
            nn.Linear(features, classes),
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """[B, V * F] -> [B, classes]."""
        views = features.reshape(len(features), TUPLE_VIEWS, -1)
        apart = [(views[:, one] - views[:, other]).abs() for one, other in self._pairs]
        return cast(torch.Tensor, self.mlp(torch.cat([features, *apart], dim=1)))


def _pretext_head(kind: PretextHead, features: int, classes: int) -> nn.Module:
    if kind == "compare":
        return _ComparingHead(features, classes)
    return nn.Linear(TUPLE_VIEWS * features, classes)


class PclModel(nn.Module):
    """Backbone, pretext classifier over the three clips' features, projector for the first and third clip.

    Args:
        backbone: gives F features a clip.
        pretext_classes: classes of the pretext task; 0 builds no classifier.
        pretext_head: the classifier: "linear" over the features of all clips, as published, or "compare", which also
            gets the distances between them.
        learner: whose projector, and predictor if any, it has.
        embedding_dim: length D of an embedding; 0 builds no projector.
        adapter_dims: feature length F_t of each teacher whose features are to be matched; a linear map for each.
        grid_dims: length C_t of the local features of each teacher for which those are; a linear map for each.
        forwards: "joint" passes all clips at once, so that they share batch-norm statistics; "each" makes a pass for
            each view, as the published code does. The same once batch norm no longer learns: then always one pass.

    Attributes:
        gives_grid: whether it says its local features; false until somebody asks for them.
    """

    def __init__(
        self,
        backbone: Backbone,
        pretext_classes: int = 5,
        embedding_dim: int = 128,
        adapter_dims: Sequence[int] = (),
        forwards: Literal["joint", "each"] = "joint",
        pretext_head: PretextHead = "linear",
        learner: str = "pcl",
        grid_dims: Sequence[int] = (),
    ) -> None:
        super().__init__()
        self.forwards = forwards
        self.pretext_classes = pretext_classes
        self.embedding_dim = embedding_dim
        self.base_network = backbone
        self.fc = _pretext_head(pretext_head, backbone.feature_dim, pretext_classes) if pretext_classes else None
        heads = LEARNER_HEADS.get(learner)
        project = heads.projector if heads else _Projector
        self.projector = project(backbone.feature_dim, embedding_dim) if embedding_dim else None
        self.predictor = heads.predictor(embedding_dim) if heads else None
        self._normalised = heads is None
        # Without teachers there is no such module, and so no such key in a checkpoint.
        self.adapters = nn.ModuleList(nn.Linear(backbone.feature_dim, dim) for dim in adapter_dims)
        self.grid_adapters = nn.ModuleList(nn.Linear(backbone.grid_dim or 0, dim) for dim in grid_dims)
        self.gives_grid = False

    def features(self, clips: torch.Tensor) -> torch.Tensor:
        """What the backbone says of all clips of all samples: [B, V, C, T, H, W], any V -> [B, V, F]."""
        said = [self.base_network(views.flatten(0, 1)).reshape(*views.shape[:2], -1) for views in self.passes(clips)]
        return said[0] if len(said) == 1 else torch.cat(said, dim=1)

    def _looked(self, clips: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Features [B, V, F], and local ones [B, V, C, t, h, w] where somebody asks for them."""
        if not (self.grid_adapters or self.gives_grid):
            return self.features(clips), None
        said = []
        for views in self.passes(clips):
            features, grid = self.base_network.look(views.flatten(0, 1))
            assert grid is not None, "a network without local features is refused where it is asked for them"
            said.append(tuple(part.reshape(*views.shape[:2], *part.shape[1:]) for part in (features, grid)))
        features, grids = (torch.cat(parts, dim=1) for parts in zip(*said, strict=True))
        return features, grids

    def passes(self, clips: torch.Tensor) -> Iterator[torch.Tensor]:
        """The views of each pass that the backbone makes over [B, V, C, T, H, W], in its memory layout."""
        count = 1 if self.forwards == "each" and self.base_network.training else clips.shape[1]
        return (arranged(views, self.base_network) for views in torch.split(clips, count, dim=1))

    def forward(self, clips: torch.Tensor) -> PclOutput:
        """Features of all clips, and what the heads say of them.

        Args:
            clips: [B, V, C, T, H, W] with V = 3, normalised.

        Raises:
            ValueError: another number of dimensions or views.
        """
        if clips.ndim != 6 or clips.shape[1] != TUPLE_VIEWS:
            raise ValueError(f"clips must be [B, {TUPLE_VIEWS}, C, T, H, W], not {list(clips.shape)}")
        features, grid = self._looked(clips)
        features = features.to(torch.promote_types(features.dtype, torch.float32))
        # The heads are small, and a length or a logit of theirs may be too large for float16.
        with torch.autocast(clips.device.type, enabled=False):
            first, third = self._embedded(features[:, FIRST]), self._embedded(features[:, THIRD])
            projected = () if self._normalised else (first, third)
            return PclOutput(
                features=features,
                pretext_logits=features.new_zeros(len(clips), 0) if self.fc is None else self.fc(features.flatten(1)),
                first=first if self._normalised else F.normalize(first, dim=-1),
                third=third if self._normalised else F.normalize(third, dim=-1),
                adapted=tuple(adapter(features) for adapter in self.adapters),
                projected=projected,
                predicted=() if self.predictor is None else tuple(map(self.predictor, projected)),
                # The map is one of channels: [B, V, C, t, h, w] -> [B, V, t, h, w, C] and back.
                adapted_grids=tuple(
                    adapter(grid.movedim(2, -1).float()).movedim(-1, 2) for adapter in self.grid_adapters
                )
                if grid is not None
                else (),
                grid=(grid,) if grid is not None and self.gives_grid else (),
            )

    def _embedded(self, features: torch.Tensor) -> torch.Tensor:
        """[B, D]; D = 0 without a projector."""
        return features.new_zeros(len(features), 0) if self.projector is None else self.projector(features)
