"""What only a GPU can show: pixels, precision, memory and going on. `pytest -m gpu` runs these, and nothing else."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from pclkd.benchmarks.gpu.bench import TINY, Bench
from pclkd.benchmarks.gpu.health import gradient_errors
from pclkd.benchmarks.gpu.rows import Row, Rows, read_rows
from pclkd.benchmarks.gpu.sections import SECTIONS, carried_out
from pclkd.benchmarks.measuring.clip_shape import ClipShape
from pclkd.benchmarks.steps.case import StepNetworks, StepOptions, random_batch
from pclkd.pipeline.clips.moments import MomentView
from pclkd.pipeline.clips.sampling import TupleSettings
from pclkd.pipeline.config import Operators
from pclkd.pipeline.opening import clip_loader
from pclkd.training.compute.precision import Precision
from pclkd.training.compute.settings import Layout

SHAPE = ClipShape(4, 16, 112)
Found = Callable[[str], dict[str, Row]]


def test_what_is_not_marked_sees_no_gpu(request: pytest.FixtureRequest) -> None:
    """Nor do the processes that it starts: a variable of the environment is inherited."""
    assert request.config.getoption("markexpr") != "gpu"
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ""
    assert not torch.cuda.is_available()


@pytest.fixture
def found(tmp_path: Path) -> Found:
    """Takes the rows of a section at tiny sizes, after the shards that it reads."""

    def take(name: str) -> dict[str, Row]:
        file = tmp_path / "rows.jsonl"
        for section in SECTIONS:
            if section.name in {"data", name}:
                rows = Rows(file, section.name, float("inf"), gpu=torch.cuda.is_available())
                carried_out(section, Bench(rows, TINY, tmp_path, tmp_path))
        return {path: row for path, row in read_rows(file).items() if row.section == name}

    return take


@pytest.mark.gpu
def test_pixels_are_those_of_the_cpu(found: Found) -> None:
    rows = found("parity")
    assert {row.state for row in rows.values()} == {"ok"}
    for path, row in rows.items():
        if path.startswith(("parity/operator_", "parity/clips_")):
            # The same JPEGs by the same decoder: operators round halves otherwise, and whole clips more than once, the
            # CPU's steps being our own. nvJPEG rounds otherwise here and there.
            exact = (0.25, 2.1) if path == "parity/clips_cpu" else (5e-3, 1.01)
            mean, largest = exact if path.endswith("_cpu") else (1.0, 48.0)
            assert float(str(row.values["mean_levels"])) <= mean, path
            assert float(str(row.values["largest_levels"])) <= largest, path
        if path == "parity/kernels_float32":
            assert float(str(row.values["rgb_largest_levels"])) <= 1.01
        if path.startswith("parity/repeats_"):
            assert row.values["differing_values"] == 0


@pytest.mark.gpu
def test_the_faster_decoder_is_kept(synthetic_shards: Path) -> None:
    tuples = TupleSettings(clip_frames=8, clip_stride=12, remote_distance=8)
    with clip_loader(synthetic_shards, device=torch.device("cuda"), batch_size=4, crop=48, tuples=tuples) as loader:
        batch = next(iter(loader))
        found = loader.calibration
    assert batch.clips.device.type == "cuda" and found is not None
    assert set(found.frames_per_s) == {"cpu", "mixed"}
    assert found.decode == max(found.frames_per_s, key=lambda way: found.frames_per_s[way])
    assert found.gpu_mib > 0


@pytest.mark.gpu
@pytest.mark.parametrize("operators", ["kernels", "dali"])
def test_views_in_stored_colours_and_in_the_clips(synthetic_shards: Path, operators: Operators) -> None:
    tuples = TupleSettings(clip_frames=8, clip_stride=12, remote_distance=8)
    for colours in ([False], [True], [False, True]):
        views = [MomentView(size=64, frames=4, colours=shown) for shown in colours]
        shape = {"batch_size": 4, "crop": 48, "tuples": tuples, "moments": views}
        with clip_loader(synthetic_shards, device=torch.device("cuda"), operators=operators, **shape) as loader:
            batch = next(iter(loader))
        assert [moment.shape for moment in batch.moments] == [(4, 3, 3, 4, 64, 64)] * len(views)
        assert all(moment.isfinite().all() for moment in (batch.clips, *batch.moments))


@pytest.mark.gpu
@pytest.mark.parametrize("layout", ["contiguous", "channels-last"])
@pytest.mark.parametrize(("precision", "most"), [("fp32", 0.01), ("bf16", 0.1), ("fp16", 0.1)])
def test_gradients_are_those_of_float32(precision: str, most: float, layout: Layout) -> None:
    errors = gradient_errors(1.0, SHAPE, Precision(precision, torch.device("cuda", 0)), layout)
    assert errors["features"] < most and errors["gradient"] < most


@pytest.mark.gpu
def test_memory_does_not_grow_and_stays_on_one_gpu() -> None:
    device = torch.device("cuda", 0)
    torch.cuda.set_device(device)
    networks = StepNetworks("r3d", "r3d", 0.25, StepOptions(compile="off"))
    batch = random_batch(SHAPE, 100, device)
    step = networks.build(batch, 100, distil=True)
    held = []
    for _ in range(12):
        step(batch)
        held.append(torch.cuda.memory_allocated(device))
    assert held[-1] == held[2]  # the optimiser has its state by then
    assert all(torch.cuda.memory_reserved(other) == 0 for other in range(1, torch.cuda.device_count()))


@pytest.mark.gpu
def test_a_stopped_run_goes_on(found: Found) -> None:
    rows = found("resume")
    assert {row.state for row in rows.values()} == {"ok"}
    assert float(str(rows["resume/compared"].values["resumed_apart_pct"])) < 0.1
