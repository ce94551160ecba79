"""Training: backbones, PCL and distillation objectives, the loop, evaluation and reports."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pclkd.training.trained_backbone import load_backbone as load_backbone

__all__ = ["load_backbone"]


def __getattr__(name: str) -> Any:
    # Lazy, because the command line imports this package and must answer --help without loading torch.
    if name == "load_backbone":
        from pclkd.training.trained_backbone import load_backbone

        return load_backbone
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
