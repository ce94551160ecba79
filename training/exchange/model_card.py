"""What is to be known of an exported backbone: for programs, and as the model card of a hub."""

import json
import math
from pathlib import Path
from typing import Any

import torch

from pclkd.pipeline.pixels.colours import MEAN, STD
from pclkd.training.exchange.trained_backbone import CARD_FORMAT, CARD_NAME, WEIGHTS_NAME
from pclkd.training.models.base import Backbone
from pclkd.training.runs.checkpoint import Checkpoint
from pclkd.training.runs.clip_form import ClipForm
from pclkd.training.runs.environment import describe_environment
from pclkd.training.runs.run_folder import Measured, read_run

__all__ = ["describe_backbone", "model_card"]


def describe_backbone(run: Path, checkpoint: Checkpoint, backbone: Backbone) -> dict[str, Any]:
    """What config.json of an export holds."""
    settings = checkpoint.settings
    side, frames = settings.loader.crop, settings.tuples.clip_frames
    return {
        "format": CARD_FORMAT,
        "backbone": {
            "name": settings.backbone.name,
            "width": settings.backbone.width,
            "feature_dim": backbone.feature_dim,
            "parameters": sum(parameter.numel() for parameter in backbone.parameters()),
        },
        "input": {
            "shape": ["N", 3, frames, side, side],
            "layout": "N, RGB, time, height, width",
            "mean": list(MEAN),
            "std": list(STD),
            "modality": settings.loader.modality,
            "residual": "x[t-1] - x[t] after normalisation, frame 0 against the last frame"
            if settings.loader.modality == "residual"
            else None,
        },
        "clips": ClipForm.of_run(run, settings).model_dump(mode="json"),  # arguments of video_clips
        "training": {
            "pretext": settings.pretext.task,
            "contrast": settings.pcl.contrast,
            "epoch": checkpoint.epoch,
            "step": checkpoint.step,
            "split": settings.split,
            "data_fingerprint": checkpoint.fingerprint,
        },
        "metrics": _metrics(run),
        "pclkd": describe_environment()["pclkd"],  # None: a checkout that is not installed
        "torch": torch.__version__,
    }


def _metrics(run: Path) -> dict[str, float]:
    """The last epoch's and every evaluation's percentages, with their standard errors."""
    if not run.is_dir():
        return {}
    record = read_run(run)
    found = dict(record.epochs[-1]) if record.epochs else {}
    figures = {name: value for name, value in found.items() if name.startswith("val/")}
    for protocol, content in record.evals.items():
        figures |= {
            f"eval/{protocol}/{name}": value
            for name, value in content.items()
            if name.endswith(("_pct", "_pct_se")) and isinstance(value, int | float)
        }
    return {name: float(value) for name, value in figures.items() if value is not None and math.isfinite(value)}


def model_card(config: dict[str, Any]) -> str:
    """The README.md of an export: front matter as hubs read it, and what a user needs."""
    backbone, clips, training = config["backbone"], config["clips"], config["training"]
    figures = {
        name: str(Measured.of(config["metrics"], name)) for name in config["metrics"] if not name.endswith("_se")
    }
    rows = "\n".join(f"| `{name}` | {value} |" for name, value in figures.items())
    table = f"| figure | percent ± its standard error over videos |\n|---|---:|\n{rows}" if rows else "None yet."
    name = f"{backbone['name']}-x{backbone['width']:g}"
    front: dict[str, Any] = {  # JSON is YAML, too
        "library_name": "pclkd",
        "pipeline_tag": "video-classification",
        "tags": ["video", "self-supervised", "feature-extraction"],
    }
    if figures:
        measured = [{"type": name, "name": name, "value": config["metrics"][name]} for name in figures]
        data = {"type": "own", "name": f"test videos of split {training['split']}"}
        result = {"task": {"type": "video-classification"}, "dataset": data, "metrics": measured}
        front["model-index"] = [{"name": name, "results": [result]}]
    said = ", ".join(f"{key}={value!r}" for key, value in clips.items())
    version = config["pclkd"] or "of a checkout"
    return f"""---
{json.dumps(front, indent=1)}
---

# {name}

A video backbone, {backbone["parameters"]:,} parameters, that gives {backbone["feature_dim"]} features of a clip. It was
trained without labels by PCL (pretext task `{training["pretext"]}`, contrast `{training["contrast"]}`) for
{training["epoch"]} epochs, {training["step"]} steps.

## Use

```python
import torch
from pclkd.training import load_backbone, video_clips

backbone = load_backbone("hf:USER/NAME")  # or this folder
clips = video_clips("video.mp4", {said})
with torch.inference_mode():
    features = backbone(clips).mean(0)  # [{backbone["feature_dim"]}]
```

Clips are {config["input"]["shape"]}, {clips["modality"]}, normalised by mean {config["input"]["mean"]}
and deviation {config["input"]["std"]}. Weights: `{WEIGHTS_NAME}`; everything else: `{CARD_NAME}`.

## Figures

{table}

The data set's fingerprint is `{training["data_fingerprint"]}`; pclkd {version}, torch {config["torch"]}.
"""
