"""What memory banks start with, where that are the networks' own embeddings of the training videos."""

from collections.abc import Iterable
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from click.testing import CliRunner

from pclkd.pipeline.batch import ClipBatch
from pclkd.training.cli import main
from pclkd.training.models.pcl_model import PclModel
from pclkd.training.models.registry import build_backbone
from pclkd.training.objective.objective import KdSettings, Objective, PclSettings
from pclkd.training.runs.checkpoint import load_checkpoint

ROWS, DIM, BATCH, RANKS = 12, 8, 4, 2
SETTINGS = PclSettings(negatives=6, embedding_dim=DIM, bank_start="network", pretext_head="compare")

pytestmark = pytest.mark.usefixtures("one_thread")


def network(name: str, seed: int, dim: int = DIM) -> PclModel:
    torch.manual_seed(seed)
    return PclModel(build_backbone(name, 0.125), embedding_dim=dim, pretext_head="compare")


def some_batches() -> list[ClipBatch]:
    """Videos 0 to 9 in order, the last batch filled up with the last one; 10 is damaged, and 11 not finite."""
    clips = torch.randn(ROWS, 3, 3, 8, 16, 16, generator=torch.Generator().manual_seed(1))
    clips[11, 0] = torch.nan
    places = [torch.tensor(ids) for ids in ([0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 9, 9], [11, 11, 11, 11])]
    return [ClipBatch(clips[i], i % 5, i, i, 7, 2 if 8 in i.tolist() else len(set(i.tolist()))) for i in places]


def objective(*, settings: PclSettings = SETTINGS, banks: Iterable[dict[str, torch.Tensor] | None] = ()) -> Objective:
    teachers = [network("r3d", 1, dim=6), network("c3d", 2)]
    return Objective(network("r3d", 0), ROWS, settings, 3, teachers=teachers, kd=KdSettings(), teacher_banks=[*banks])


def test_every_row_is_what_its_network_says_of_that_clip() -> None:
    filled = objective()
    before = {owner: {k: v.clone() for k, v in rows.items()} for owner, rows in filled.memory_state().items()}
    weights = {name: value.clone() for name, value in filled.student.state_dict().items()}
    assert filled.has_fresh_banks
    told = filled.fill(some_batches())
    assert told == "the banks of student, teacher, teacher2 start with the embeddings of 11 of 12 videos"
    # An untrained network in training normalises by each batch; a teacher by what it has learned.
    networks = {"student": network("r3d", 0).train(), "teacher": network("r3d", 1, dim=6).eval()}
    networks["teacher2"] = network("c3d", 2).eval()
    for owner, asked in networks.items():
        expected = before[owner]
        for batch in some_batches()[:3]:
            with torch.no_grad():
                said = asked(batch.clips)
            for place in range(batch.valid):
                expected["first"][batch.sample_index[place]] = said.first[place]
                expected["third"][batch.sample_index[place]] = said.third[place]
        if owner != "student":  # of the video whose first clip is not finite, and by batch statistics both
            expected["third"][11] = asked(some_batches()[3].clips).third[0].detach()
        torch.testing.assert_close(filled.memory_state()[owner], expected, rtol=1e-5, atol=1e-6)
    assert filled.memory_state()["student"]["first"].var(dim=0).sum().sqrt() > 0.1
    # The student itself has not seen them.
    torch.testing.assert_close(filled.student.state_dict(), weights, rtol=0, atol=0)


def test_banks_are_filled_once_and_never_those_of_a_checkpoint() -> None:
    filled = objective()
    filled.fill(some_batches())
    assert not filled.has_fresh_banks
    resumed = objective()
    resumed.load_memory_state(filled.memory_state())
    assert not resumed.has_fresh_banks
    assert not objective(settings=SETTINGS.model_copy(update={"bank_start": "random"})).has_fresh_banks
    of_its_run = {clip: torch.full((ROWS, 6), 6**-0.5) for clip in ("first", "third")}
    taught = objective(banks=[of_its_run, None])
    assert taught.fill(some_batches()).startswith("the banks of student, teacher2 start")
    torch.testing.assert_close(taught.memory_state()["teacher"], of_its_run, rtol=0, atol=0)


def work(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=RANKS)
    filled = objective()
    told = filled.fill(some_batches()[:3][rank::RANKS])  # two batches and one
    torch.save({"told": told, **filled.memory_state()}, folder / f"{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_have_the_rows_of_one(tmp_path: Path) -> None:
    mp.spawn(work, args=(tmp_path,), nprocs=RANKS)  # type: ignore[no-untyped-call]
    alone = objective()
    told = alone.fill(some_batches()[:3])
    assert "10 of 12 videos" in told
    for rank in range(RANKS):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert found.pop("told") == told
        torch.testing.assert_close(found, alone.memory_state(), rtol=0, atol=0)


def test_a_run_fills_its_banks_before_the_first_step_and_not_when_resumed(
    synthetic_shards: Path, tmp_path: Path
) -> None:
    tiny = ["loader.crop=32", "backbone.width=0.125", "loader.batch_size=4", "pcl.negatives=8", "evaluation.every=0"]
    base = [
        "pretrain",
        "--data",
        str(synthetic_shards),
        "--preset=demo",
        "--set=pcl.contrast=bank",
        "--epochs=2",
        "--set=pcl.bank_start=network",
    ]
    base += [f"--set={one}" for one in tiny]

    def run(name: str, *more: str) -> str:
        done = CliRunner().invoke(main, [*base, "--out", str(tmp_path / name), *more])
        assert done.exit_code == 0, done.output
        return done.output

    told = "the banks of student start with the embeddings of 12 of 12 videos"
    assert told in run("parts", "--max-steps=2")
    assert told not in run("parts", "--resume")
    run("whole")
    whole, parts = (load_checkpoint(tmp_path / name) for name in ("whole", "parts"))
    assert all(torch.equal(parts.memory["student"][clip], rows) for clip, rows in whole.memory["student"].items())
