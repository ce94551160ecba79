"""Training: backbones, PCL and distillation objectives, the loop, evaluation and reports."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pclkd.training.backbones import register_backbone as register_backbone
    from pclkd.training.trained_backbone import load_backbone as load_backbone
    from pclkd.training.video_clips import video_clips as video_clips

__all__ = ["load_backbone", "register_backbone", "video_clips"]

_HOMES = {"load_backbone": "trained_backbone", "register_backbone": "backbones", "video_clips": "video_clips"}


def __getattr__(name: str) -> Any:
    # Lazy, because the command line imports this package and must answer --help without loading torch.
    if name in _HOMES:
        from importlib import import_module

        found = getattr(import_module(f"pclkd.training.{_HOMES[name]}"), name)
        globals()[name] = found  # the module of that name took the place when it was imported
        return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
