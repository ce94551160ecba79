"""Teachers that say nothing are not imitated; teachers sharpened by a temperature of their own."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from click.testing import CliRunner

from pclkd.pipeline.batch import ClipBatch
from pclkd.training.cli import main
from pclkd.training.models.pcl_model import PclModel
from pclkd.training.models.registry import build_backbone
from pclkd.training.objective.bank import nce_indices
from pclkd.training.objective.hearing import Hearing, normalised_entropy
from pclkd.training.objective.objective import KdSettings, Objective, PclSettings

ROWS, DIM, BATCH = 8, 16, 4
SETTINGS = PclSettings(negatives=6, embedding_dim=DIM)

pytestmark = pytest.mark.usefixtures("one_thread")


def network(seed: int) -> PclModel:
    torch.manual_seed(seed)
    return PclModel(build_backbone("r3d", 0.125), embedding_dim=DIM)


def constant_teacher() -> PclModel:
    """Whatever it sees, its embedding is the same; its pretext answers differ and are sure."""
    teacher = network(1)
    assert isinstance(teacher.projector.mlp[2], torch.nn.Linear) and isinstance(teacher.fc, torch.nn.Linear)
    with torch.no_grad():
        teacher.projector.mlp[2].weight.zero_()
        teacher.fc.weight.mul_(200)
    return teacher


def constant_bank() -> dict[str, torch.Tensor]:
    return {clip: torch.full((ROWS, DIM), DIM**-0.5) for clip in ("first", "third")}


def batch_of(step: int) -> ClipBatch:
    return ClipBatch(
        clips=torch.randn(BATCH, 3, 3, 8, 16, 16, generator=torch.Generator().manual_seed(step)),
        pretext_label=torch.arange(BATCH),
        sample_index=(BATCH * step + torch.arange(BATCH)) % ROWS,
        label=torch.zeros(BATCH, dtype=torch.int64),
        epoch=step * BATCH // ROWS,
        valid=BATCH,
    )


def taught_by(teacher: PclModel, bank: dict[str, torch.Tensor] | None, **kd: object) -> Objective:
    return Objective(
        network(0), ROWS, SETTINGS, 3, teachers=[teacher], kd=KdSettings.model_validate(kd), teacher_banks=[bank]
    ).eval()


def calls(objective: Objective, steps: range) -> list[dict[str, float]]:
    with torch.no_grad():
        return [{name: float(value) for name, value in objective(batch_of(step)).items()} for step in steps]


def test_a_teacher_that_says_nothing_is_left_out_after_eight_batches() -> None:
    teacher = constant_teacher()
    bank = constant_bank()
    with torch.no_grad():  # the very direction that it says
        bank = {clip: teacher.eval()(batch_of(0).clips).first[:1].expand(ROWS, -1) for clip in bank}
    objective = taught_by(teacher, bank)
    before = calls(objective, range(8))
    assert all("kd_contrast" in found and found["teacher_entropy_contrast"] > 0.9999 for found in before)
    assert all(found["teacher_entropy_pretext"] < 0.5 for found in before)
    (told,) = objective.news()
    for part in ("kd_contrast: teacher says nothing", "uniform to 1.0000", "kd.least_said = 0.99", "0.07 here"):
        assert part in told
    assert objective.news() == []
    (after,) = calls(objective, range(8, 9))
    assert "kd_contrast" not in after and "kd_pretext" in after
    assert after["loss"] == pytest.approx(after["pretext"] + 0.5 * after["contrast"] + after["kd_pretext"], rel=1e-6)


def test_an_informative_teacher_stays_and_its_entropy_is_that_of_its_distribution() -> None:
    teacher = network(1).eval()
    generator = torch.Generator().manual_seed(5)
    bank = {
        clip: torch.nn.functional.normalize(torch.randn(ROWS, DIM, generator=generator)) for clip in constant_bank()
    }
    objective = taught_by(teacher, bank, contrast_teacher_temperature=0.04, pretext_weight=0)
    (found,) = calls(objective, range(1))
    with torch.no_grad():
        said = teacher(batch_of(0).clips)
    index = nce_indices(3, 0, batch_of(0).sample_index, SETTINGS.negatives, ROWS)
    entropies = []
    for own, other in (("first", "third"), ("third", "first")):
        cosines = np.einsum("bd,bkd->bk", getattr(said, own).double().numpy(), bank[other][index].double().numpy())
        p = np.exp(cosines / 0.04) / np.exp(cosines / 0.04).sum(axis=1, keepdims=True)
        entropies += list(-(p * np.log(p)).sum(axis=1) / math.log(1 + SETTINGS.negatives))
    assert found["teacher_entropy_contrast"] == pytest.approx(np.mean(entropies), rel=1e-4)
    assert 0.05 < found["teacher_entropy_contrast"] < 0.95
    assert all("kd_contrast" in later for later in calls(objective, range(1, 12)))
    assert objective.news() == []


def test_a_bank_of_random_rows_is_waited_for_until_a_twentieth_of_them_is_left() -> None:
    objective = taught_by(constant_teacher(), None, pretext_weight=0)
    # 0.5^5 < 1/20: five passes over 8 videos are ten batches of 4; then eight are measured.
    found = calls(objective, range(19))
    assert [("kd_contrast" in one) for one in found] == [True] * 18 + [False]
    assert found[0]["teacher_entropy_contrast"] < 0.99


@pytest.mark.parametrize("stop", [5, 9])
def test_the_decision_is_kept_and_taken_once(stop: int) -> None:
    def fresh() -> Objective:
        return taught_by(constant_teacher(), None, pretext_weight=0, contrast_teacher_temperature=0.5)

    whole, parts = fresh(), fresh()
    expected = calls(whole, range(20))
    assert calls(parts, range(stop)) == expected[:stop]
    resumed = fresh()
    resumed.load_memory_state(parts.memory_state())
    assert calls(resumed, range(stop, 20)) == expected[stop:]
    assert len(resumed.news()) == len(whole.news()) == 1
    again = fresh()
    again.load_memory_state(resumed.memory_state())
    assert calls(again, range(20, 21)) == calls(whole, range(20, 21)) and again.news() == []
    # A run from before there was the rule goes on as it began.
    old = {owner: memory for owner, memory in parts.memory_state().items() if not owner.startswith("hearing")}
    resumed = fresh()
    resumed.load_memory_state(old)
    assert all("kd_contrast" in found for found in calls(resumed, range(stop, 30)))


def test_of_two_teachers_the_one_that_speaks_is_imitated() -> None:
    hearing = Hearing("kd_contrast", "contrast", 2, 0.01, "remedy")
    uniform, sure = torch.zeros(3, 5), 9 * torch.eye(3, 5)
    for _ in range(8):
        assert hearing.listen(["a", "b"], [uniform, sure]) == ["a", "b"]
    assert hearing.listen(["a", "b"], [uniform, sure]) == ["b"] and not hearing.silent
    assert set(hearing.figures) == {"teacher_entropy_contrast", "teacher2_entropy_contrast"}
    everyone = Hearing("kd_contrast", "contrast", 2, 0, "remedy")
    for _ in range(9):
        assert everyone.listen(["a", "b"], [uniform, sure]) == ["a", "b"]


@pytest.mark.parametrize(
    ("logits", "entropy"), [([[0.0, 0.0]], 1), ([[50.0, 0.0]], 0), ([[-2e4, 0.0]], 0), ([[3.0]], 0)]
)
def test_entropy_is_between_certain_and_uniform(logits: list[list[float]], entropy: float) -> None:
    assert float(normalised_entropy(torch.tensor(logits))) == pytest.approx(entropy, abs=1e-6)


def work(rank: int, folder: Path) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    # By itself the first would leave its teacher out, and the second would not.
    hearing = Hearing("kd_pretext", "pretext", 1, 0.01, "remedy")
    for _ in range(9):
        hearing.listen([None], [rank * 0.3 * torch.eye(3)], random_for=5)
    torch.save({**hearing.state(), "told": hearing.news()}, folder / f"{rank}.pt")
    dist.destroy_process_group()


def test_all_ranks_decide_alike(tmp_path: Path) -> None:
    mp.spawn(work, args=(tmp_path,), nprocs=2)  # type: ignore[no-untyped-call]
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    assert first == second
    # Three samples on each of two ranks: the first batch is waited for.
    assert first["batches"] == 8 and first["heard"].tolist() == [False]


def test_a_sharper_teacher_against_float64_and_its_default() -> None:
    teacher, bank = network(1).eval(), {clip: torch.eye(ROWS, DIM) for clip in constant_bank()}
    plain = calls(taught_by(teacher, bank), range(2))
    assert calls(taught_by(teacher, bank, contrast_teacher_temperature=0.07), range(2)) == plain
    (found,) = calls(taught_by(teacher, bank, contrast_teacher_temperature=0.02), range(1))
    objective = taught_by(teacher, bank)
    own_bank = objective.memory_state()["student"]
    with torch.no_grad():
        student, taught = network(0).eval()(batch_of(0).clips), teacher(batch_of(0).clips)
    index = nce_indices(3, 0, batch_of(0).sample_index, SETTINGS.negatives, ROWS)
    values = []
    for own, other in (("first", "third"), ("third", "first")):
        logs = []
        for said, rows, temperature in ((taught, bank, 0.02), (student, own_bank, 0.07)):
            cosines = np.einsum("bd,bkd->bk", getattr(said, own).double().numpy(), rows[other][index].double().numpy())
            logs.append(cosines / temperature - np.log(np.exp(cosines / temperature).sum(axis=1, keepdims=True)))
        values.append((np.exp(logs[0]) * (logs[0] - logs[1])).sum(axis=1).mean())
    assert found["kd_contrast"] == pytest.approx(np.mean(values), rel=1e-4)
    assert found["kd_contrast"] != plain[0]["kd_contrast"]


def test_a_run_tells_it_in_one_line_and_goes_on(synthetic_shards: Path, tmp_path: Path) -> None:
    tiny = ["loader.crop=32", "backbone.width=0.125", "loader.batch_size=4", "pcl.negatives=8", "evaluation.every=0"]
    base = [
        "--data",
        str(synthetic_shards),
        "--preset=demo",
        "--set=pcl.contrast=bank",
        "--set=optimizer.average_decay=0",
        *(f"--set={one}" for one in [*tiny, "log_every=1"]),
    ]

    def run(command: str, name: str, *more: str) -> str:
        done = CliRunner().invoke(main, [command, *base, "--out", str(tmp_path / name), *more])
        assert done.exit_code == 0, done.output
        return done.output

    run("pretrain", "teacher", "--epochs=1")
    saved = torch.load(tmp_path / "teacher" / "last.pt", weights_only=True)
    saved["model"]["projector.mlp.2.weight"].zero_()
    said = torch.nn.functional.normalize(saved["model"]["projector.mlp.2.bias"], dim=0)
    for rows in saved["memory"]["student"].values():
        rows.copy_(said)
    torch.save(saved, tmp_path / "teacher" / "last.pt")
    taught = ("--teacher", str(tmp_path / "teacher"), "--epochs=4")
    assert run("distill", "parts", *taught, "--max-steps=5").count("says nothing") == 0
    assert run("distill", "parts", *taught, "--resume").count("step 8: kd_contrast: teacher says nothing") == 1
    lines = [json.loads(line) for line in (tmp_path / "parts" / "metrics.jsonl").read_text().splitlines()]
    has = {line["step"]: "kd_contrast" in line for line in lines if line["kind"] == "step"}
    assert has == {step: step <= 8 for step in range(1, 13)}
