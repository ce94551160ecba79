"""Learners beside PCL: their losses derived anew in float64, and runs that train, stop, go on and are used."""

import json
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from click.testing import CliRunner, Result

from pclkd.pipeline import ClipBatch
from pclkd.sharding.common.errors import InputError
from pclkd.training import Seen, load_backbone
from pclkd.training.cli import main
from pclkd.training.models.pcl_model import PclModel, PclOutput
from pclkd.training.models.registry import build_backbone
from pclkd.training.objective import registry
from pclkd.training.objective.registry import chosen_terms, learner_term
from pclkd.training.objective.settings import KdSettings, PclSettings
from pclkd.training.objective.terms import Given
from pclkd.training.runs.checkpoint import load_checkpoint

pytestmark = pytest.mark.usefixtures("one_thread")
pytest.importorskip("lightly")

LEARNERS = ("moco", "simsiam", "byol", "vicreg", "barlow_twins")
TINY = [
    "--preset=demo", "--set=backbone.width=0.125", "--set=loader.batch_size=4", "--set=evaluation.every=0",
    "--set=log_every=1", "--epochs=1",
]  # fmt: skip
N, D = 6, 8


def said(seed: int, *, predicted: bool = False, projected: bool = False) -> PclOutput:
    draw = lambda: torch.randn(N, D, generator=g)  # noqa: E731
    g = torch.Generator().manual_seed(seed)
    raw = (draw(), draw())
    answers = (draw().requires_grad_(), draw().requires_grad_()) if predicted else ()
    first, third = (F.normalize(values, dim=1).requires_grad_() for values in raw)
    return PclOutput(torch.zeros(N, 3, 4), torch.zeros(N, 0), first, third, (), raw if projected else (), answers)


def seen(student: PclOutput, keys: PclOutput | None = None) -> Seen:
    nothing = torch.zeros(N)
    return Seen(ClipBatch(nothing, nothing, torch.arange(N), nothing, epoch=0, valid=N), student, keys=keys)


def term(name: str, **settings: object):
    return learner_term(name).build(1.0, Given(PclSettings(embedding_dim=D, **settings), KdSettings(), 20, 0))


def test_who_predicts_is_pulled_and_who_is_predicted_is_not() -> None:
    student, keys = said(0, predicted=True), PclOutput(*(part.detach() for part in said(1)[:4]))
    for name, targets in (("simsiam", student), ("byol", keys)):
        loss = term(name)(seen(student, keys))
        cosines = [
            F.cosine_similarity(answer.double(), target.double(), dim=1).mean()
            for answer, target in zip(student.predicted, (targets.third, targets.first), strict=True)
        ]
        assert loss.item() == pytest.approx(-sum(cosines).item() / 2, abs=1e-6)
        loss.backward()
        assert student.first.grad is None and student.third.grad is None
        assert all(answer.grad.abs().sum() > 0 for answer in student.predicted)


def test_vicreg_and_barlow_twins_by_their_formulas() -> None:
    student = said(3, projected=True)
    a, b = (values.double() for values in student.projected)
    spread = sum((1 - (values.var(0) + 1e-4).sqrt()).clamp(min=0).mean() for values in (a, b)) / 2
    crossed = 0.0
    for values in (a, b):
        covariance = torch.cov(values.T)
        crossed = crossed + (covariance.square().sum() - covariance.diagonal().square().sum()) / D
    expected = 25 * (a - b).square().mean() + 25 * spread + crossed
    assert term("vicreg")(seen(student)).item() == pytest.approx(expected.item(), rel=1e-5)
    correlation = torch.corrcoef(torch.cat([a, b], dim=1).T)[:D, D:]
    off = correlation.square().sum() - correlation.diagonal().square().sum()
    expected = (correlation.diagonal() - 1).square().sum() + 0.005 * off
    assert term("barlow_twins")(seen(student)).item() == pytest.approx(expected.item(), rel=1e-3)


def test_moco_tells_the_partner_from_the_keys_of_before() -> None:
    moco = term("moco", queue_size=2 * N, nce_temperature=0.2)
    queue = moco.loss.memory_bank.bank.double().clone()
    for step in range(3):
        student, keys = said(10 + step), said(20 + step)
        losses, both = [], ((student.first, keys.third), (student.third, keys.first))
        for query, key in both:
            own = (query.double() * key.double()).sum(1, keepdim=True)
            logits = torch.cat([own, query.double() @ queue.T], dim=1) / 0.2
            losses.append((logits.logsumexp(1) - logits[:, 0]).mean())
        queue = torch.cat(
            [key.detach().double() for _, key in both]
        )  # after both: no clip's own key is among the others
        assert moco(seen(student, keys)).item() == pytest.approx(sum(losses).item() / 2, rel=1e-5)
    other = term("moco", queue_size=2 * N, nce_temperature=0.2)
    other.load_memory(moco.memory())
    assert torch.equal(other.loss.memory_bank.bank, moco.loss.memory_bank.bank)


@pytest.mark.parametrize("name", LEARNERS)
def test_heads_give_what_the_learner_reads(name: str) -> None:
    network = PclModel(build_backbone("r3d", 0.125), 0, D, learner=name)
    output = network(torch.randn(4, 3, 3, 8, 32, 32))
    learner = learner_term(name)
    assert len(output.projected) == 2 * (name != "moco")
    assert len(output.predicted) == 2 * ("predicted" in learner.reads)
    torch.testing.assert_close(output.first.norm(dim=1), torch.ones(4))
    if output.projected:
        torch.testing.assert_close(F.normalize(output.projected[1], dim=1), output.third)
        assert (output.projected[1].norm(dim=1) - 1).abs().max() > 0.01
    chosen = chosen_terms(PclSettings(learner=name, learner_weight=3), KdSettings(), pretext=False, teachers=False)
    assert chosen == {learner: 3}


def pretrain(shards: Path, run: Path, *options: object) -> Result:
    words = ["pretrain", "--data", shards, "--out", run, *TINY, *options]
    return CliRunner().invoke(main, [str(word) for word in words])


@pytest.mark.parametrize("name", LEARNERS)
def test_a_run_goes_on_where_it_was_stopped(name: str, synthetic_shards: Path, tmp_path: Path) -> None:
    how = ("--learner", name, "--set=pcl.queue_size=16", "--set=pcl.key_momentum=0.9")
    twice = [("--max-steps=1",), ("--resume",)] if name in ("moco", "byol") else []  # what they remember goes on, too
    for run, options in (("whole", [()]), ("stopped", twice)):
        for sitting in options:
            done = pretrain(synthetic_shards, tmp_path / run, *how, *sitting)
            assert done.exit_code == 0, done.output
    whole = load_checkpoint(tmp_path / "whole")
    assert whole.step == 3
    if twice:
        stopped = load_checkpoint(tmp_path / "stopped")
        assert all(torch.equal(value, stopped.model[key]) for key, value in whole.model.items())
    told = json.loads((tmp_path / "whole" / "settings.json").read_text())
    assert list(told["terms"]) == [name] and told["pretext"]["task"] == "none"


def test_what_was_learned_is_used_without_lightly(synthetic_shards: Path, tmp_path: Path, monkeypatch) -> None:
    assert pretrain(synthetic_shards, tmp_path / "run", "--learner=byol", "--max-steps=1").exit_code == 0
    monkeypatch.setitem(sys.modules, "lightly", None)  # as if it were not there
    monkeypatch.delitem(sys.modules, "pclkd.training.objective.learners.byol")
    assert load_backbone(tmp_path / "run").feature_dim == 64
    with pytest.raises(InputError, match="needs lightly"):  # which a term asks for
        learner_term("byol")


def test_a_missing_package_is_told_before_training(monkeypatch) -> None:
    monkeypatch.setattr(registry.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(InputError, match=r"pcl.learner=byol needs lightly - pip install 'pclkd\[learners\]'"):
        learner_term("byol")
