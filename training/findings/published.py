"""Published figures of the same networks, beside a study's own where the protocol is the same."""

from dataclasses import dataclass
from typing import Any

from pclkd.training.findings.records import PlannedRun, Study, title
from pclkd.training.report.page import Table
from pclkd.training.runs.run_folder import Protocol, RunRecord

__all__ = ["published_table"]


@dataclass(frozen=True)
class _Published:
    method: str
    backbone: str
    protocol: Protocol
    value: float
    where: str


# Pre-trained on UCF101 without labels, percent of UCF101's test videos. PCL: arXiv 2010.15464; TCLR: arXiv 2101.07974;
# SLIC: CVPR 2022.
_PUBLISHED = (
    _Published("PCL (VCP)", "c3d", "finetune", 81.4, "mean of three splits"),
    _Published("PCL (VCP)", "r3d", "finetune", 79.9, "split 1"),
    _Published("PCL (VCP)", "r3d", "finetune", 81.1, "mean of three splits"),
    _Published("PCL (VCP)", "r2plus1d", "finetune", 79.9, "mean of three splits"),
    _Published("PCL (VCP)", "r3d18", "finetune", 83.4, "mean of three splits"),
    _Published("PCL (VCP)", "r3d18", "retrieval", 55.1, "split 1"),
    _Published("TCLR", "r3d18", "finetune", 82.4, "split 1"),
    _Published("TCLR", "r3d18", "linear", 69.9, "split 1"),
    _Published("TCLR", "r3d18", "retrieval", 56.2, "split 1"),
    _Published("SLIC", "r3d18", "finetune", 83.2, "split 1"),
    _Published("SLIC", "r3d18", "retrieval", 71.6, "split 1"),
)
_FIGURES: dict[Protocol, tuple[str, str]] = {
    "finetune": ("fine-tuned top-1", "finetune_top1_pct"),
    "linear": ("linear probe", "linear_top1_pct"),
    "retrieval": ("retrieval R@1", "retrieval_r1_pct"),
}
_TEST_VIDEOS = {"split 1": 3783, "mean of three splits": 3783 + 3734 + 3696}
_CLIPS, _FINETUNE_EPOCHS, _CLIP, _WIDTH = 10, 150, (16, 112), 1.0


def published_table(study: Study) -> Table | None:
    """A row a published figure of the study's backbones; None where there is none."""
    names = {run.backbone for run in study.runs}
    rows = [["method", "backbone", "protocol", "published %", "alone %", "student %"]]
    for row in _PUBLISHED:
        if row.backbone in names:
            what = f"{_FIGURES[row.protocol][0]}, {row.where}"
            own = [_own(study, row, kinds) for kinds in ({"baseline", "control"}, {"student"})]
            rows.append([row.method, title(row.backbone), what, f"{row.value:.1f}", *own])
    note = (
        "Of this study stand here the means of the runs that train-kd evaluate measured as published: UCF101's test "
        f"videos, {_CLIPS} clips of {_CLIP[0]} x {_CLIP[1]} x {_CLIP[1]} a video, the whole network, fine-tuned for "
        f"{_FINETUNE_EPOCHS} epochs. Other protocols are not comparable and left out."
    )
    return Table("Beside published figures (UCF101)", note, rows) if len(rows) > 1 else None


def _own(study: Study, row: _Published, kinds: set[str]) -> str:
    usual = {trio.student.name for trio in study.main}
    runs = [run for run in study.runs if run.backbone == row.backbone and run.kind in kinds and run.fraction == 1]
    runs = [run for run in runs if run.kind != "student" or run.name in usual]
    found = [value for run in runs if (value := _measured(study, row, run)) is not None]
    return f"{sum(found) / len(found):.1f} ({len(found)} runs)" if found else "not measured so"


def _measured(study: Study, row: _Published, run: PlannedRun) -> float | None:
    record = study.records.get(run.name)
    evaluation = None if record is None else record.evals.get(row.protocol)
    if record is None or evaluation is None or not _same_protocol(record, evaluation, row):
        return None
    value = evaluation.get(_FIGURES[row.protocol][1])
    return None if value is None else float(value)


def _same_protocol(record: RunRecord, evaluation: dict[str, Any], row: _Published) -> bool:
    settings = record.settings
    clip = (settings.get("tuples", {}).get("clip_frames"), settings.get("loader", {}).get("crop"))
    return (
        evaluation.get("test_videos") == _TEST_VIDEOS[row.where]
        and evaluation.get("clips") == _CLIPS
        and (row.protocol != "finetune" or evaluation.get("finetune_epochs") == _FINETUNE_EPOCHS)
        and clip == _CLIP
        and settings.get("backbone", {}).get("width") == _WIDTH
    )
