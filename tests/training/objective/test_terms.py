"""Contrast sources and distillation terms beside the published ones, each against a float64 derivation."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.nn.parallel import DistributedDataParallel

from pclkd.pipeline.batch import ClipBatch
from pclkd.sharding.common.errors import InputError
from pclkd.training.models.pcl_model import PclModel, PclOutput
from pclkd.training.models.registry import build_backbone
from pclkd.training.objective.objective import KdSettings, Objective, PclSettings
from pclkd.training.objective.queue import EmbeddingQueue, QueueContrast

ROWS, DIM, BATCH = 24, 16, 4


pytestmark = pytest.mark.usefixtures("one_thread")


def network(name: str = "r3d", seed: int = 0, adapters: tuple[int, ...] = (), width: float = 0.125) -> PclModel:
    torch.manual_seed(seed)
    return PclModel(build_backbone(name, width), embedding_dim=DIM, adapter_dims=adapters)


def batch_of(step: int = 0, samples: tuple[int, ...] = (5, 0, 23, 11)) -> ClipBatch:
    n = len(samples)
    return ClipBatch(
        clips=torch.randn(n, 3, 3, 8, 32, 32, generator=torch.Generator().manual_seed(step)),
        pretext_label=torch.arange(n) % 5,
        sample_index=torch.tensor(samples),
        label=torch.zeros(n, dtype=torch.int64),
        epoch=step,
        valid=n,
    )


def settings(**changes: object) -> PclSettings:
    return PclSettings.model_validate({"negatives": 12, "embedding_dim": DIM, "queue_size": 10, **changes})


def wide(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().numpy().astype(np.float64)


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def random_said(n: int, seed: int) -> PclOutput:
    g = torch.Generator().manual_seed(seed)
    first, third = (torch.nn.functional.normalize(torch.randn(n, DIM, generator=g), dim=1) for _ in range(2))
    return PclOutput(torch.randn(n, 3, 8, generator=g), torch.randn(n, 5, generator=g), first, third)


# --- queue ------------------------------------------------------------------------------------------------------------


def test_a_queue_keeps_the_last_embeddings_whatever_the_sizes_of_the_batches() -> None:
    queue = EmbeddingQueue(7, 3, seed=0, which=0)
    pushed: list[float] = []
    for step, n in enumerate([2, 4, 3, 1, 9, 7, 5]):
        values = [100.0 * step + i for i in range(n)]
        pushed += values
        queue.push(torch.tensor(values)[:, None].expand(-1, 3), torch.tensor(values).long())
        kept = set(pushed[-7:])
        assert kept <= set(queue.rows[:, 0].tolist())
        assert {int(value) for value in kept} <= set(queue.owner.tolist())


def test_an_embedding_that_is_not_finite_does_not_enter_a_queue() -> None:
    queue = EmbeddingQueue(5, 3, seed=0, which=0)
    before = queue.rows.clone()
    queue.push(torch.tensor([[1.0, 0, 0], [0, float("inf"), 0]]), torch.tensor([7, 8]))
    assert queue.rows[0].tolist() == [1, 0, 0]
    assert torch.equal(queue.rows[1], before[1])


def test_queue_contrast_against_float64_with_the_own_video_left_out() -> None:
    source = QueueContrast(10, DIM, temperature=0.2, seed=3, pair=0)
    batches = [batch_of(0, (1, 2, 3)), batch_of(1, (3, 4, 5))]
    said, keys = [random_said(3, s) for s in (1, 2)], [random_said(3, s) for s in (3, 4)]
    start = {name: value.clone() for name, value in source.state().items()}
    source.compare(said[0], keys[0], batches[0], None)
    first, third = source.compare(said[1], keys[1], batches[1], None)

    def expected(
        query: torch.Tensor, partner: torch.Tensor, remembered: torch.Tensor, begun: torch.Tensor
    ) -> np.ndarray:
        rows = wide(begun)
        rows[:3] = wide(remembered)
        scores = wide(query) @ rows.T
        # Sample 3 stands third in the queue since the first batch.
        scores[0, 2] = -30.0
        own = (wide(query) * wide(partner)).sum(1, keepdims=True)
        return np.concatenate([own, scores], axis=1) / 0.2

    np.testing.assert_allclose(
        wide(first), expected(said[1].first, keys[1].third, keys[0].third, start["third_rows"]), atol=1e-5
    )
    np.testing.assert_allclose(
        wide(third), expected(said[1].third, keys[1].first, keys[0].first, start["first_rows"]), atol=1e-5
    )


def test_the_key_encoder_follows_the_student_and_makes_the_keys() -> None:
    student = network()
    objective = Objective(student, ROWS, settings(contrast="queue", key_momentum=0.75), seed=0).eval()
    before = {name: p.detach().clone() for name, p in student.named_parameters()}
    with torch.no_grad():
        for p in student.parameters():
            p.add_(1e-3)
    objective(batch_of())
    assert objective.keys is not None
    for name, own in objective.keys.model.named_parameters():
        torch.testing.assert_close(own, before[name] + 0.25e-3, rtol=0, atol=1e-6, msg=name)
        assert not own.requires_grad
    with torch.no_grad():
        expected = objective.keys.model(batch_of().clips)
    assert objective.source is not None
    torch.testing.assert_close(objective.source.state()["third_rows"][:BATCH], expected.third)


# --- in batch ---------------------------------------------------------------------------------------------------------


ONE_TWICE = (5, 0, 5, 11)  # as where a video stands in for a damaged one


@pytest.mark.parametrize(("samples", "not_compared"), [((5, 0, 23, 11), []), (ONE_TWICE, [(0, 2), (2, 0)])])
def test_in_batch_contrast_against_float64(samples: tuple[int, ...], not_compared: list[tuple[int, int]]) -> None:
    student, batch = network().eval(), batch_of(samples=samples)
    objective = Objective(student, ROWS, settings(contrast="in_batch", nce_temperature=1), seed=0).eval()
    got = objective(batch)
    with torch.no_grad():
        said = student(batch.clips)
    scores = wide(said.first) @ wide(said.third).T
    for pair in not_compared:
        scores[pair] = -np.inf
    expected = -np.diag(log_softmax(scores)).mean() - np.diag(log_softmax(scores.T)).mean()
    assert float(got["contrast"]) == pytest.approx(expected, rel=1e-4)


def _gradients(student: torch.nn.Module, batch: ClipBatch) -> dict[str, torch.Tensor]:
    Objective(student, ROWS, settings(contrast="in_batch"), seed=0).eval()(batch)["loss"].backward()
    inner = student.module if isinstance(student, DistributedDataParallel) else student
    return {name: p.grad for name, p in inner.named_parameters() if p.grad is not None}


def _half(rank: int, folder: Path, samples: tuple[int, ...]) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    batch, own = batch_of(samples=samples), slice(2 * rank, 2 * rank + 2)
    share = ClipBatch(
        batch.clips[own], batch.pretext_label[own], batch.sample_index[own], batch.label[own], batch.epoch, 2
    )
    torch.save(_gradients(DistributedDataParallel(network()), share), folder / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.parametrize("samples", [(5, 0, 23, 11), ONE_TWICE])
def test_two_processes_with_half_the_batch_give_the_gradients_of_one_with_all(
    tmp_path: Path, samples: tuple[int, ...]
) -> None:
    mp.spawn(_half, args=(tmp_path, samples), nprocs=2)  # type: ignore[no-untyped-call]
    halves = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    alone = _gradients(network(), batch_of(samples=samples))
    for name, gradient in alone.items():
        assert torch.equal(halves[0][name], halves[1][name])
        torch.testing.assert_close(halves[0][name], gradient, rtol=1e-3, atol=1e-6, msg=name)


# --- features and relations -----------------------------------------------------------------------------------------


def test_feature_and_relation_terms_against_float64() -> None:
    teachers = [network("c3d", 1).eval(), network("r3d", 2, width=0.25).eval()]
    dims = tuple(teacher.base_network.feature_dim for teacher in teachers)
    assert dims[0] != dims[1]
    student = network("r2plus1d", 0, dims).eval()
    kd = KdSettings(
        pretext_weight=0, contrast_weight=0, feature_weight=0.6, relation_weight=0.8, relation_queue=9,
        relation_teacher_temperature=0.1, relation_student_temperature=0.3,
    )  # fmt: skip
    objective = Objective(
        student, ROWS, settings(pretext_weight=0, contrast_weight=0), 5, teachers=teachers, kd=kd
    ).eval()
    queues = [wide(objective.memory_state()["term kd_relation"][f"queues.{n}.rows"]) for n in range(2)]
    batch = batch_of()
    got = objective(batch)
    with torch.no_grad():
        said, taught = student(batch.clips), [teacher(batch.clips) for teacher in teachers]
    distances, entropies = [], []
    for number, adapter in enumerate(student.adapters):
        adapted = wide(said.features) @ wide(adapter.weight).T + wide(adapter.bias)
        theirs = wide(taught[number].features)
        rows = theirs.reshape(-1, theirs.shape[-1])
        deviation = rows.std(0) + 1e-3 * rows.std(0).mean()
        distances.append(((adapted - (theirs - rows.mean(0)) / deviation) ** 2).mean())
        s, t = unit(adapted.mean(1)), unit(theirs.mean(1))
        own = np.stack([(s * t).sum(1), (t * t).sum(1)])
        p = log_softmax(np.concatenate([own[1][:, None], t @ queues[number].T], 1) / 0.1)
        q = log_softmax(np.concatenate([own[0][:, None], s @ queues[number].T], 1) / 0.3)
        entropies.append((np.exp(p) * (p - q)).sum(1).mean())
        after = wide(objective.memory_state()["term kd_relation"][f"queues.{number}.rows"])
        np.testing.assert_allclose(after[:BATCH], t, atol=1e-5)
        np.testing.assert_allclose(after[BATCH:], queues[number][BATCH:], atol=1e-6)
    assert float(got["kd_feature"]) == pytest.approx(np.mean(distances), rel=1e-4)
    assert float(got["kd_relation"]) == pytest.approx(np.mean(entropies), rel=1e-3)
    expected = 0.6 * np.mean(distances) + 0.8 * np.mean(entropies)
    assert float(got["loss"].detach()) == pytest.approx(expected, rel=1e-3)
    got["loss"].backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in student.parameters())
    assert all(adapter.weight.grad.abs().sum() > 0 for adapter in student.adapters)


@pytest.mark.parametrize("combine", ["average", "each"])
def test_several_teachers_are_averaged_or_imitated_one_by_one(combine: str) -> None:
    teachers = [network("c3d", 1).eval(), network("r3d", 2).eval()]
    student = network().eval()
    kd = KdSettings.model_validate({"contrast_weight": 0, "pretext_temperature": 2.0, "combine": combine})
    objective = Objective(student, ROWS, settings(), 0, teachers=teachers, kd=kd).eval()
    got = objective(batch_of())
    with torch.no_grad():
        q = log_softmax(wide(student(batch_of().clips).pretext_logits) / 2)
        ps = [np.exp(log_softmax(wide(teacher(batch_of().clips).pretext_logits) / 2)) for teacher in teachers]
    if combine == "average":
        p = (ps[0] + ps[1]) / 2
        expected = 4 * (p * (np.log(p) - q)).sum(1).mean()
    else:
        expected = np.mean([4 * (p * (np.log(p) - q)).sum(1).mean() for p in ps])
    assert float(got["kd_pretext"]) == pytest.approx(expected, rel=1e-3, abs=1e-6)


# --- when teachers are asked ------------------------------------------------------------------------------------------


def calls_of(objective: Objective, epochs: list[int]) -> tuple[list[int], list[dict[str, float]]]:
    calls: list[int] = []
    seen: list[int] = []
    objective.teachers[0].register_forward_pre_hook(lambda *_: seen.append(1))
    results = []
    for epoch in epochs:
        before = len(seen)
        results.append({name: float(value.detach()) for name, value in objective(batch_of(epoch)).items()})
        calls.append(len(seen) - before)
    return calls, results


@pytest.mark.parametrize(
    ("shape", "epochs", "shares"),
    [
        ({"warmup_epochs": 4}, (0, 1, 3, 4, 9), (0, 0.25, 0.75, 1, 1)),
        ({"fade_epochs": 4}, (0, 1, 3, 4, 9), (1, 0.75, 0.25, 0, 0)),
        ({"warmup_epochs": 2, "fade_epochs": 8}, (0, 1, 2, 6, 8), (0, 0.5, 0.75, 0.25, 0)),
    ],
)
def test_warm_up_and_fading_move_the_weights_and_ask_nobody_at_zero(
    shape: dict[str, int], epochs: tuple[int, ...], shares: tuple[float, ...]
) -> None:
    kd = KdSettings(contrast_weight=0, **shape)
    objective = Objective(network(), ROWS, settings(contrast_weight=0), 0, teachers=[network("c3d", 1)], kd=kd).eval()
    calls, results = calls_of(objective, list(epochs))
    assert calls == [int(share > 0) for share in shares]
    for result, share in zip(results, shares, strict=True):
        assert ("kd_pretext" in result) == (share > 0)
        expected = result["pretext"] + share * result.get("kd_pretext", 0)
        assert result["loss"] == pytest.approx(expected, rel=1e-5)


def test_teachers_may_be_asked_every_other_step_and_a_resumed_run_keeps_the_turn() -> None:
    kd = KdSettings(teacher_every=2)

    def fresh() -> Objective:
        return Objective(network(), ROWS, settings(), 0, teachers=[network("c3d", 1)], kd=kd).eval()

    objective = fresh()
    calls, results = calls_of(objective, [0, 0, 0])
    assert calls == [1, 0, 1]
    assert set(results[1]) == {"loss", "pretext", "contrast", "pretext_top1_pct", "embedding_spread"}
    resumed = fresh()
    resumed.load_memory_state(objective.memory_state())
    assert calls_of(resumed, [0, 0])[0] == [0, 1]


@pytest.mark.parametrize("contrast", ["bank", "queue", "in_batch"])
def test_every_contrast_is_distilled_and_resumed(contrast: str) -> None:
    def fresh() -> Objective:
        return Objective(
            network(), ROWS, settings(contrast=contrast), 0, teachers=[network("c3d", 1)], kd=KdSettings()
        ).eval()

    first = fresh()
    got = first(batch_of())
    terms = {"loss", "pretext", "contrast", "kd_pretext", "kd_contrast"}
    health = {"pretext_top1_pct", "embedding_spread", "agreement_pct"}
    assert set(got) == terms | health | {"teacher_entropy_pretext", "teacher_entropy_contrast"}
    got["loss"].backward()
    assert all(p.grad is not None for p in first.student.parameters())
    third, fourth = fresh(), fresh()
    third(batch_of())
    fourth.load_memory_state({k: {n: t.clone() for n, t in v.items()} for k, v in third.memory_state().items()})
    expected, found = third(batch_of(1)), fourth(batch_of(1))
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_no_contrast_leaves_the_projector_alone_and_refuses_to_distil_it() -> None:
    objective = Objective(network(), ROWS, settings(contrast="none"), 0).eval()
    got = objective(batch_of())
    assert set(got) == {"loss", "pretext", "pretext_top1_pct", "embedding_spread"}
    got["loss"].backward()
    assert isinstance(objective.student, PclModel)
    assert not any(p.grad.any() for p in objective.student.projector.parameters())
    with pytest.raises(InputError, match=r"pcl\.contrast=none"):
        Objective(network(), ROWS, settings(contrast="none"), 0, teachers=[network("c3d", 1)])


def test_adapters_must_fit_the_teachers() -> None:
    kd = KdSettings(feature_weight=1)
    with pytest.raises(ValueError, match=r"adapters give \[\] numbers"):
        Objective(network(), ROWS, settings(), 0, teachers=[network("c3d", 1)], kd=kd)
