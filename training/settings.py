"""All settings of a run, the presets, and overrides from the command line."""

import json
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, Field, ValidationError

from pclkd.pipeline.clips.augment import AugmentSettings
from pclkd.pipeline.config import DataSettings
from pclkd.sharding.common.errors import InputError
from pclkd.sharding.common.files import parse_json
from pclkd.sharding.common.settings import Settings, change, first_fault, nearest
from pclkd.training.compute.settings import Compile, GpuForms, Layout, OptimizerSettings
from pclkd.training.objective.settings import KdSettings, PclSettings

__all__ = [
    "PRESETS",
    "BackboneSettings",
    "CheckpointSettings",
    "GuardSettings",
    "RunSettings",
    "TrackerName",
    "describe",
    "flat",
    "override",
    "preset",
]


TrackerName = Literal["none", "wandb", "mlflow"]


class GuardSettings(Settings):
    """What is watched while training."""

    non_finite: Literal["stop", "skip"] = "stop"
    """A loss or gradient that is not finite: stop the run, or leave that update out (each step then copies the
    batch-norm statistics, and in fp16 waits for the device). Either way the batch is saved to look at."""
    least_spread: float = Field(default=0.05, ge=0, le=1)
    """Mean embedding_spread of an epoch below which a warning says that the embeddings collapse; 0 never warns."""


class CheckpointSettings(Settings):
    """What is saved beside last.pt, which every finished epoch replaces."""

    keep: int = Field(default=0, ge=0)
    """Checkpoints of the latest finished epochs to keep beside last.pt, as epoch-NNNN.pt."""
    best: Literal["", "val/pretext_top1_pct", "val/linear_top1_pct", "val/retrieval_r1_pct"] = ""
    """Measured figure whose highest value is kept as best.pt; empty: none."""
    every_steps: int = Field(default=0, ge=0)
    """Steps between further saves of last.pt within an epoch; 0: none."""


class BackboneSettings(Settings):
    """Which network is trained."""

    name: str = "r3d"
    """c3d, r3d or r2plus1d (the published ones); r3d18 and r2plus1d18 are deeper."""
    width: float = Field(default=1.0, gt=0, le=4)
    """Factor on all channel counts; 1 is the published network."""


class EvaluationSettings(Settings):
    """What is measured while training, on the split's test part."""

    every: int = Field(default=1, ge=0)
    """Epochs between evaluations; 0 evaluates never."""
    clips: int = Field(default=2, ge=1, le=1000)
    """Clips a video whose features are averaged, for linear probe, kNN and retrieval."""
    features_every: int = Field(default=1, ge=1)
    """Epochs between measurements of features (linear probe, kNN, retrieval), of those epochs that are evaluated; the
    untrained and the final network always."""
    pretext_passes: int = Field(default=1, ge=1, le=1000)
    """Passes over the test videos with different pretext draws."""


class RunSettings(DataSettings):
    """Everything that decides a run, beside its shards and its teacher."""

    augment: AugmentSettings = AugmentSettings()  # a run always has one
    backbone: BackboneSettings = BackboneSettings()
    pcl: PclSettings = PclSettings()
    kd: KdSettings = KdSettings()
    optimizer: OptimizerSettings = OptimizerSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    checkpoint: CheckpointSettings = CheckpointSettings()
    guards: GuardSettings = GuardSettings()
    epochs: int = Field(default=100, ge=0, le=2**31)
    """Passes over the training videos."""
    precision: Literal["auto", "fp32", "fp16", "bf16"] = "auto"
    """Arithmetic of the networks; auto: bf16 on GPUs that have it, fp16 on others, fp32 on the CPU."""
    compile: Compile = "auto"
    """torch.compile of the backbone: on, cuda-graphs, off; auto races them on a GPU and is off on the CPU."""
    layout: Layout = "auto"
    """Order of clips and weights in memory: contiguous or channels-last; auto: channels-last on a GPU, contiguous on
    the CPU, where small C3D and R3D are faster in channels-last."""
    gpu_forms: GpuForms = "auto"
    """Batch norms and stem in forms that a GPU computes faster, batch norm of teachers within their convolutions, all
    the same to rounding; auto: in channels-last on a GPU."""
    sync_batch_norm: bool = False
    """Batch norm over the batches of all processes; needs GPUs."""
    log_every: int = Field(default=10, ge=1)
    """Steps between lines in metrics.jsonl, in TensorBoard and off a terminal."""
    track: TrackerName = "none"
    """Where settings and figures go beside TensorBoard: wandb or mlflow."""


PRESETS: dict[str, dict[str, Any]] = {
    "pcl": {},
    # Every value of the published code, clips that overlap by five frames included.
    "pcl-published": {
        "tuples": {"clip_stride": 11},
        "pcl": {"forwards": "each"},
        "epochs": 200,
        "evaluation": {"clips": 10},
    },
    # With a teacher, by what the search at laptop size found: features too, and less of the teacher every epoch.
    "kd": {"kd": {"feature_weight": 30.0, "fade_epochs": 100}},
    # Small networks and clips, so that a laptop learns something in minutes; docs/learning.md has the search.
    "demo": {
        "backbone": {"width": 0.25},
        "tuples": {"clip_frames": 8, "clip_stride": 12, "remote_distance": 16},
        "augment": {"blur_sigma": [0.1, 1.0]},
        "loader": {"crop": 32, "batch_size": 32},
        "pcl": {"contrast": "in_batch", "nce_temperature": 0.1, "contrast_weight": 1.0, "pretext_head": "compare"},
        "kd": {"feature_weight": 30.0, "fade_epochs": 24},
        "optimizer": {"lr": 0.05, "warmup_epochs": 2, "average_decay": 0.98},
        "evaluation": {"every": 2, "clips": 10, "features_every": 8, "pretext_passes": 2},
        "layout": "channels-last",
        "epochs": 24,
    },
}
"""Settings by purpose: `pcl` is the recipe as the paper means it, `pcl-published` as its code does it, `kd` distils by
our own recipe at the published size, `demo` suits a laptop."""


def preset(name: str) -> RunSettings:
    """The settings of a preset.

    Raises:
        InputError: there is no such preset.
    """
    if name not in PRESETS:
        raise InputError(f"unknown preset {name!r}", remedy=f"take one of: {', '.join(PRESETS)}")
    return RunSettings.model_validate(PRESETS[name])


def override(settings: RunSettings, assignments: Sequence[str]) -> RunSettings:
    """Settings with `a.b=value` assignments carried out.

    Raises:
        InputError: not an assignment, an unknown name (the nearest one is told), or a value that is not allowed.
    """
    known, changes = flat(settings), {}
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        if not equals:
            raise InputError(f"--set {assignment!r} is not an assignment", remedy="write it as --set name=value")
        # A setting may be a table of names, as pcl.own_terms is: one of its names is no setting by itself.
        if path not in known and not isinstance(known.get(path.rpartition(".")[0]), dict):
            raise InputError(
                f"--set {path}: no such setting",
                remedy=f"did you mean {nearest(path, known)}? --print-config shows all",
            )
        changes[path] = _parse(text)
    try:
        return change(settings, changes)
    except ValidationError as error:
        path, value, fault = first_fault(error)
        # What several settings of a group are together is nobody's own value: tell those of it that were given.
        given = [said for said in assignments if said.startswith(f"{path}.")] or [f"{path}={value}"]
        raise InputError(f"--set {' '.join(given)}: {fault}", remedy=_meaning(path)) from None


def describe(settings: RunSettings) -> str:
    """Every setting as `name = value  # help`, one a line, ready for --set."""
    rows = [(name, json.dumps(value), _help(name)) for name, value in flat(settings).items()]
    width = max(len(f"{name} = {value}") for name, value, _ in rows)
    return "\n".join(f"{f'{name} = {value}':<{width}}  # {text}" for name, value, text in rows)


def flat(settings: BaseModel, prefix: str = "") -> dict[str, Any]:
    """Every setting by its path, as `optimizer.lr`."""
    found: dict[str, Any] = {}
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if isinstance(value, BaseModel):
            found |= flat(value, f"{prefix}{name}.")
        else:
            found[prefix + name] = value
    return found


def _meaning(path: str) -> str:
    told = _help(path) if path else ""
    return f"it means: {told}" if told else "--print-config shows what each setting means"


def _help(path: str) -> str:
    """The docstring under a field, on one line."""
    model: type[BaseModel] = RunSettings
    told = ""
    for name in path.split("."):
        if name not in model.model_fields:  # a place in a list, a name in a table, or none at all
            break
        told = " ".join((model.model_fields[name].description or "").split())
        annotation = model.model_fields[name].annotation
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            break
        model = annotation
    return told


def _parse(text: str) -> Any:
    try:
        return parse_json(text)
    except ValueError:
        return text
