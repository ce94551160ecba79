"""The network that a run's settings describe."""

from collections.abc import Sequence

from pclkd.training.models.pcl_model import PclModel
from pclkd.training.models.registry import build_backbone
from pclkd.training.settings import RunSettings

__all__ = ["build_model"]


def build_model(settings: RunSettings, adapter_dims: Sequence[int] = ()) -> PclModel:
    """A network with fresh weights, drawn from torch's generator.

    Args:
        settings: of the run: backbone, pretext task, embedding.
        adapter_dims: feature length of each teacher whose features are to be matched.

    Raises:
        InputError: an unknown backbone, or a pretext task that cannot be.
    """
    task = settings.pretext.build()
    return PclModel(
        build_backbone(settings.backbone.name, settings.backbone.width),
        pretext_classes=0 if task is None else len(task.classes),
        embedding_dim=settings.pcl.embedding_dim,
        adapter_dims=adapter_dims,
    )
