"""Frozen networks of transformers: VideoMAE, V-JEPA 2, DINOv2 and v3, the vision towers of CLIP and SigLIP.

Sources: VideoMAE, arXiv 2203.12602; V-JEPA 2, arXiv 2506.09985; DINOv2, arXiv 2304.07193, with registers,
arXiv 2309.16588; DINOv3, arXiv 2508.10104; CLIP, arXiv 2103.00020; SigLIP, arXiv 2303.15343.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from pclkd.pipeline.clips.moments import MEAN, STD
from pclkd.sharding.common.errors import InputError
from pclkd.training.frozen.network import Answer, FrozenNetwork
from pclkd.training.frozen.spec import TeacherSpec, overridden
from pclkd.training.frozen.weights import fetches, library, not_there, offline

__all__ = ["from_hugging_face"]

_CLIP_MEAN, _CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
_PROCESSORS = ("video_preprocessor_config.json", "preprocessor_config.json")


@dataclass(frozen=True)
class _Family:
    """What no configuration tells.

    Attributes:
        network: transformers' class.
        feature: how a clip's features are read.
        pixels: name of the argument that takes them.
        prefix: tokens in front of the grid, registers aside.
        size: pixels where the configuration's are not those that it is used with; 0: the configuration's.
        mean, std: where no processor's file tells.
    """

    network: str
    feature: Literal["given", "first", "mean"]
    pixels: str = "pixel_values"
    prefix: int = 0
    size: int = 0
    mean: tuple[float, float, float] = MEAN
    std: tuple[float, float, float] = STD


_CLIP = _Family("CLIPVisionModel", "given", prefix=1, mean=_CLIP_MEAN, std=_CLIP_STD)
_SIGLIP = _Family("SiglipVisionModel", "given", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
_FAMILIES = {
    "videomae": _Family("VideoMAEModel", "mean"),
    "vjepa2": _Family("VJEPA2Model", "mean", pixels="pixel_values_videos"),
    "dinov2": _Family("Dinov2Model", "first", prefix=1, size=224),
    "dinov2_with_registers": _Family("Dinov2WithRegistersModel", "first", prefix=1, size=224),
    "dinov3_vit": _Family("DINOv3ViTModel", "first", prefix=1),
    "clip": _CLIP,
    "clip_vision_model": _CLIP,
    "siglip": _SIGLIP,
    "siglip_vision_model": _SIGLIP,
}


def from_hugging_face(name: str, wanted: str, changes: Mapping[str, Any]) -> FrozenNetwork:
    """A network of transformers.

    Args:
        name: of the teacher, for messages.
        wanted: a repository whose files are in Hugging Face's cache, or a folder that `save_pretrained` wrote.
        changes: of the spec that its family and its configuration tell.

    Raises:
        InputError: transformers or the weights are not there, or another family.
    """
    transformers: Any = library("transformers", name, "hf")
    transformers.utils.logging.disable_progress_bar()
    only_here = {"local_files_only": not fetches()}
    try:
        with offline():
            config = transformers.AutoConfig.from_pretrained(wanted, **only_here)
            family = _family(name, config.model_type)
            network = getattr(transformers, family.network).from_pretrained(wanted, dtype=torch.float32, **only_here)
            processor = _processor(transformers, wanted, only_here)
    except (OSError, ValueError) as error:
        if "model_type" in str(error) or "model type" in str(error):
            raise _unknown(name, str(error).splitlines()[0]) from None
        import huggingface_hub

        where = Path(wanted) if Path(wanted).is_dir() or wanted[:1] in "./~" else huggingface_hub.constants.HF_HUB_CACHE
        raise not_there(name, where, f"hf download {wanted}") from None
    config = network.config
    clips = config.model_type in ("videomae", "vjepa2")
    frames = getattr(config, "num_frames", getattr(config, "frames_per_clip", 1)) if clips else 1
    crop = processor.get("crop_size", {})
    size = crop.get("height") if isinstance(crop, dict) else crop
    if clips or not size:
        size = getattr(config, "crop_size", None) if config.model_type == "vjepa2" else family.size
    side = config.image_size if hasattr(config, "image_size") else config.crop_size
    spec = TeacherSpec(
        frames=frames,
        size=min(size, side) if size else side,
        images=not clips,
        feature=family.feature,
        prefix=family.prefix + getattr(config, "num_register_tokens", 0),
        mean=tuple(processor.get("image_mean", family.mean)),
        std=tuple(processor.get("image_std", family.std)),
    )
    spec = overridden(spec, changes, name)
    tube, patch = getattr(config, "tubelet_size", 1), config.patch_size
    rows = spec.size // (patch if isinstance(patch, int) else patch[0])
    if "grid" not in changes:
        spec = overridden(spec, {"grid": (max(1, spec.frames // tube) if clips else 1, rows, rows)}, name)
    known = None
    if clips:
        _check_clips(name, config, spec)
        known = (spec.frames // tube * rows**2, config.hidden_size)
    return FrozenNetwork(name, network, _Asked(family.pixels, clips, config, spec), spec, known)


def _check_clips(name: str, config: Any, spec: TeacherSpec) -> None:
    """Refuse clips that a video network does not take; trying it could take minutes."""
    told = f"the teacher {name} does not take clips of {spec.frames} frames of {spec.size} x {spec.size} pixels"
    if config.model_type == "videomae" and (spec.frames, spec.size) != (config.num_frames, config.image_size):
        raise InputError(
            f"{told}: its positions are those of {config.num_frames} frames of {config.image_size} x "
            f"{config.image_size}",
            remedy="leave frames and size of kd.teacher_specs as they are found",
        )
    if spec.frames % config.tubelet_size or spec.size % config.patch_size:
        raise InputError(
            f"{told}: it cuts them into tubes of {config.tubelet_size} frames of {config.patch_size} x "
            f"{config.patch_size}",
            remedy="give multiples of these in kd.teacher_specs",
        )


class _Asked:
    """How these networks are asked."""

    def __init__(self, pixels: str, clips: bool, config: Any, spec: TeacherSpec) -> None:
        self._pixels, self._clips = pixels, clips
        self._more: dict[str, Any] = {"skip_predictor": True} if config.model_type == "vjepa2" else {}
        # Positions were learned for one size, and are stretched for another.
        stretched = getattr(config, "image_size", spec.size) != spec.size
        if stretched and config.model_type in ("clip_vision_model", "siglip_vision_model"):
            self._more["interpolate_pos_encoding"] = True

    def __call__(self, network: Any, pixels: torch.Tensor) -> Answer:
        shown = pixels.transpose(1, 2) if self._clips else pixels  # [M, T, C, H, W]
        said = network(**{self._pixels: shown}, **self._more)
        return getattr(said, "pooler_output", None), said.last_hidden_state


def _family(name: str, kind: str) -> _Family:
    if kind not in _FAMILIES:
        raise _unknown(name, f"it is a {kind}")
    return _FAMILIES[kind]


def _unknown(name: str, why: str) -> InputError:
    return InputError(
        f"the teacher {name} is of no known family: {why}",
        remedy=f"take one of {', '.join(_FAMILIES)}, or write a function for it: --teacher module:path.to:function",
    )


def _processor(transformers: Any, wanted: str, only_here: Mapping[str, Any]) -> dict[str, Any]:
    """What the files beside the weights say of size and normalisation."""
    for file in _PROCESSORS:
        found = transformers.utils.cached_file(
            wanted, file, _raise_exceptions_for_missing_entries=False, _raise_exceptions_for_connection_errors=False,
            **only_here,
        )  # fmt: skip
        if found is not None:
            content: dict[str, Any] = json.loads(Path(found).read_text())
            return content
    return {}
