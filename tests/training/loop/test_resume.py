"""A run that is stopped within and between epochs ends as one that never was: every number it keeps, bit for bit."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.nn.parallel import DistributedDataParallel

from pclkd.pipeline.batch import ClipBatch
from pclkd.training.compute.precision import Precision
from pclkd.training.compute.settings import OptimizerSettings
from pclkd.training.compute.step import TrainStep
from pclkd.training.loop.figures import RunPosition
from pclkd.training.loop.plan import plan_run
from pclkd.training.loop.trainer import train
from pclkd.training.models.pcl_model import PclModel
from pclkd.training.models.registry import build_backbone
from pclkd.training.objective.objective import Objective, PclSettings
from pclkd.training.runs.checkpoint import load_checkpoint
from pclkd.training.settings import override, preset

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
TINY = [
    *("backbone.width=0.05", "loader.crop=16", "loader.threads=1", "pcl.negatives=8", "evaluation.every=0"),
    *("log_every=1", "kd.least_said=0.001", "kd.relation_queue=10"),
]
# What has a state, in four runs of 12 videos; steps of an epoch; where they are stopped: in epoch 1, after it, in 3.
RUNS: dict[str, tuple[list[str], int, tuple[int, ...]]] = {
    "cosine behind a warm-up, a queue that no batch divides, its key encoder, an average, a short last batch": (
        [
            *("optimizer.schedule=cosine", "optimizer.warmup_epochs=2", "optimizer.name=adamw", "epochs=4"),
            *("optimizer.average_decay=0.9", "pcl.contrast=queue", "pcl.queue_size=7", "loader.batch_size=5"),
        ],
        2,
        (1, 2, 5),
    ),
    "plateau, banks, a teacher who is asked every other step": (
        [
            *("optimizer.schedule=plateau", "optimizer.patience=1", "optimizer.lr=1e-9", "epochs=6"),
            *("pcl.contrast=bank", "loader.batch_size=4", "kd.teacher_every=2", "kd.warmup_epochs=2"),
            *("kd.pretext_weight=1", "kd.contrast_weight=1", "kd.relation_weight=1", "kd.feature_weight=1"),
        ],
        3,
        (2, 3, 8),
    ),
    "steps of the rate, its own past as a teacher, batches of one": (
        [
            *("optimizer.schedule=step", "optimizer.name=lars", "epochs=4", "kd.self_teacher=true"),
            *("pcl.contrast=bank", "loader.batch_size=1", "pcl.pretext_head=linear"),
        ],
        12,
        (5, 12, 31),
    ),
    "updates that are left out, several batches an update": (
        [
            *("optimizer.schedule=step", "optimizer.weight_decay=1e30", "epochs=4", "guards.non_finite=skip"),
            *("loader.batch_size=2", "optimizer.accumulate=2"),
        ],
        3,
        (2, 3, 8),
    ),
}


def numbers(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """All that is in a state, by its place; tensors as digests of their bytes."""
    if isinstance(value, torch.Tensor):
        data = value.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        yield name, (value.dtype, tuple(value.shape), hashlib.sha256(data).hexdigest())
    elif isinstance(value, Mapping | list | tuple):
        items = value.items() if isinstance(value, Mapping) else enumerate(value)
        for key, inner in items:
            yield from numbers(inner, f"{name}/{key}")
    else:
        yield name, repr(value)


def kept(run: Path) -> dict[str, Any]:
    checkpoint = load_checkpoint(run)
    return {
        name: number
        for field in fields(checkpoint)
        for name, number in numbers(getattr(checkpoint, field.name), field.name)
    }


def told(run: Path, kind: str) -> dict[float, dict[str, Any]]:
    """What the log says of steps or epochs, the last word on each; times are left out."""
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    timed = ("throughput/", "time/", "loader/")
    return {
        line["step"]: {name: value for name, value in line.items() if not name.startswith(timed)}
        for line in lines
        if line["kind"] == kind
    }


@pytest.mark.parametrize(("changes", "steps", "stops"), RUNS.values(), ids=RUNS.keys())
def test_a_stopped_run_ends_as_one_that_never_was(
    synthetic_shards: Path, tmp_path: Path, changes: list[str], steps: int, stops: tuple[int, ...]
) -> None:
    settings = override(preset("demo"), [*TINY, *changes])
    teachers = []
    if "kd.teacher_every=2" in changes:
        plain = override(settings, ["epochs=0", "seed=5", "kd.teacher_every=1"])
        train(plan_run(tmp_path / "teacher", synthetic_shards, plain))
        teachers = [tmp_path / "teacher"]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    plan = plan_run(whole, synthetic_shards, settings, teachers=teachers)
    before = [dict(numbers(teacher.model.state_dict())) for teacher in plan.teachers]
    train(plan)
    assert [dict(numbers(teacher.model.state_dict())) for teacher in plan.teachers] == before
    for stop in (*stops, None):
        train(plan_run(parts, synthetic_shards, settings, teachers=teachers, resume=True, max_steps=stop))
        assert stop is None or load_checkpoint(parts).step == stop
    for kind in ("step", "epoch"):
        assert repr(told(parts, kind)) == repr(told(whole, kind))  # in which NaN is NaN
    assert kept(parts) == kept(whole)
    # It would show if what is stopped had no effect: the rates move, and updates are left out.
    lines = told(whole, "step")
    assert sorted(lines) == [*range(1, steps * settings.epochs + 1)]
    assert len({line["lr"] for line in lines.values()}) >= 3
    if settings.guards.non_finite == "skip":
        assert 0 < load_checkpoint(whole).skipped < len(lines)


# --- several processes -----------------------------------------------------------------------------------------------

RANKS = 2


def batch(number: int, rank: int) -> ClipBatch:
    """Of the second one, the last rank's clips are not finite."""
    clips = torch.randn(2, 3, 3, 8, 16, 16, generator=torch.Generator().manual_seed(10 * number + rank))
    if number == 1 and rank == RANKS - 1:
        clips[0, 0, 0, 0] = torch.nan
    index = torch.arange(2) + 2 * rank
    return ClipBatch(clips, index, index, torch.zeros_like(index), epoch=0, valid=2)


def work(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=RANKS)
    torch.manual_seed(0)
    student = PclModel(build_backbone("r3d", 0.05), embedding_dim=8)
    wrapped = DistributedDataParallel(student)
    objective = Objective(wrapped, 4, PclSettings(contrast="queue", queue_size=7, embedding_dim=8), 0).train()
    step = TrainStep(objective, wrapped, OptimizerSettings(), Precision("fp32", CPU), 4, skip_non_finite=True)
    at, states = RunPosition(), []
    for number in range(3):
        losses = step(batch(number, rank))
        at.add({name: value.item() for name, value in losses.items()})
        state = {
            "parameters": dict(student.named_parameters()),
            "buffers": dict(student.named_buffers()),
            "queue": objective.memory_state()["student"],
        }
        states.append({part: repr(dict(numbers(values))) for part, values in state.items()})
        assert all(rows.isfinite().all() for rows in state["queue"].values())
    sums = at.shared(CPU)
    resumed = RunPosition(sums={name: [*pair] for name, pair in sums.items()})  # by every rank, from one checkpoint
    means = [place.means(CPU)["loss"] for place in (at, resumed)]
    found = {"states": states, "skipped": step.skipped, "counted": sums["loss"][1], "means": means}
    (folder / f"{rank}.json").write_text(json.dumps(found))
    dist.destroy_process_group()


def test_a_batch_that_is_bad_on_one_rank_is_left_out_by_all_and_counted_once(tmp_path: Path) -> None:
    mp.spawn(work, args=(tmp_path,), nprocs=RANKS)  # type: ignore[no-untyped-call]
    ranks = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(RANKS)]
    for found in ranks:
        good, bad, better = found["states"]
        for part in ("parameters", "buffers"):
            assert good[part] == bad[part] != better[part]
        assert found["skipped"] == 1
        assert found["counted"] == 2.5  # three finite losses on the one, two on the other: their mean
        assert found["means"] == pytest.approx([ranks[0]["means"][0]] * 2, rel=1e-12)
    for part in ("parameters", "queue"):
        assert [state[part] for state in ranks[0]["states"]] == [state[part] for state in ranks[1]["states"]]
