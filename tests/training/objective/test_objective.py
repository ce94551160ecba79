import numpy as np
import pydantic
import pytest
import torch

from pclkd.pipeline.batch import ClipBatch
from pclkd.sharding.common.errors import InputError
from pclkd.training.models.pcl_model import PclModel, PclOutput
from pclkd.training.models.registry import build_backbone
from pclkd.training.objective.bank import nce_indices
from pclkd.training.objective.objective import KdSettings, Objective, PclSettings, _health

ROWS, DIM, BATCH = 24, 16, 4
SMALL = PclSettings(negatives=12, embedding_dim=DIM)


pytestmark = pytest.mark.usefixtures("one_thread")


def network(name: str, seed: int = 0, classes: int = 5, dim: int = DIM) -> PclModel:
    torch.manual_seed(seed)
    return PclModel(build_backbone(name, 0.125), pretext_classes=classes, embedding_dim=dim)


def fixed_batch(seed: int = 0, epoch: int = 3) -> ClipBatch:
    generator = torch.Generator().manual_seed(seed)
    return ClipBatch(
        clips=torch.randn(BATCH, 3, 3, 8, 32, 32, generator=generator),
        pretext_label=torch.tensor([0, 1, 3, 4]),
        sample_index=torch.tensor([5, 0, 23, 11]),
        label=torch.zeros(BATCH, dtype=torch.int64),
        epoch=epoch,
        valid=BATCH,
    )


def settle(model: PclModel) -> PclModel:
    """Let the batch-norm statistics, which eval mode uses, become those of the fixed batch."""
    model.train()
    with torch.no_grad():
        for _ in range(40):
            model(fixed_batch().clips)
    return model


def some_teacher(name: str = "r3d", dim: int = DIM) -> PclModel:
    return settle(network(name, 1, dim=dim))


# --- independent derivations, float64 -------------------------------------------------------------------------------


def wide(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().numpy().astype(np.float64)


def log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def scores(embeddings: np.ndarray, bank: np.ndarray, index: np.ndarray, temperature: float) -> np.ndarray:
    return np.array(
        [[row @ bank[i] / temperature for i in chosen] for row, chosen in zip(embeddings, index, strict=True)]
    )


def relative_entropy(teacher: np.ndarray, student: np.ndarray, temperature: float) -> float:
    p, q = log_softmax(teacher / temperature), log_softmax(student / temperature)
    return float(temperature**2 * (np.exp(p) * (p - q)).sum(axis=1).mean())


def entropy(logits: np.ndarray) -> float:
    p = np.exp(log_softmax(logits))
    return float(-(p * np.log(p)).sum(axis=1).mean() / np.log(logits.shape[1]))


@pytest.mark.parametrize("student_name", ["r3d", "c3d", "r2plus1d"])
def test_every_term_against_float64(student_name: str) -> None:
    settings = PclSettings(
        negatives=12, embedding_dim=DIM, nce_temperature=0.2, pretext_weight=0.7, contrast_weight=0.3
    )
    kd = KdSettings(pretext_weight=1.3, pretext_temperature=3.0, contrast_weight=0.9, contrast_temperature=1.5)
    # The teacher's embeddings have another length: its banks are its own.
    student, teacher = network(student_name).eval(), some_teacher("r3d", dim=24)
    objective = Objective(student, ROWS, settings, seed=9, teachers=[teacher], kd=kd)
    batch = fixed_batch()
    banks = {who: {k: wide(v) for k, v in state.items()} for who, state in objective.memory_state().items()}
    with torch.no_grad():
        s, t = student(batch.clips), teacher.eval()(batch.clips)
    index = nce_indices(9, batch.epoch, batch.sample_index, 12, ROWS).numpy()
    got = objective(batch)

    label = batch.pretext_label.numpy()
    pretext = -log_softmax(wide(s.pretext_logits))[np.arange(BATCH), label].mean()
    student_logits = [
        scores(wide(s.first), banks["student"]["third"], index, 0.2),
        scores(wide(s.third), banks["student"]["first"], index, 0.2),
    ]
    teacher_logits = [
        scores(wide(t.first), banks["teacher"]["third"], index, 0.2),
        scores(wide(t.third), banks["teacher"]["first"], index, 0.2),
    ]
    contrast = sum(-log_softmax(logits)[:, 0].mean() for logits in student_logits)
    kd_pretext = relative_entropy(wide(t.pretext_logits), wide(s.pretext_logits), 3.0)
    both = [relative_entropy(a, b, 1.5) for a, b in zip(teacher_logits, student_logits, strict=True)]
    expected = {
        "loss": 0.7 * pretext + 0.3 * contrast + 1.3 * kd_pretext + 0.9 * np.mean(both),
        "pretext": pretext,
        "contrast": contrast,
        "kd_pretext": kd_pretext,
        "kd_contrast": np.mean(both),
        "pretext_top1_pct": 100 * (wide(s.pretext_logits).argmax(axis=1) == label).mean(),
        "embedding_spread": np.sqrt(wide(s.first).var(axis=0).sum()),
        "agreement_pct": 100 * (wide(s.pretext_logits).argmax(1) == wide(t.pretext_logits).argmax(1)).mean(),
        "teacher_entropy_pretext": entropy(wide(t.pretext_logits)),
        "teacher_entropy_contrast": np.mean([entropy(logits) for logits in teacher_logits]),
    }
    assert list(got) == list(expected)
    for key, value in expected.items():
        assert float(got[key].detach()) == pytest.approx(float(value), rel=2e-4, abs=1e-5), key

    # The banks were read as they were before, then moved half-way to the new embeddings.
    for who, said in (("student", s), ("teacher", t)):
        for clip, embeddings in (("first", said.first), ("third", said.third)):
            after = banks[who][clip].copy()
            for row, embedding in zip(batch.sample_index.tolist(), wide(embeddings), strict=True):
                moved = 0.5 * after[row] + 0.5 * embedding
                after[row] = moved / np.linalg.norm(moved)
            np.testing.assert_allclose(objective.memory_state()[who][clip].numpy(), after, atol=1e-5)


def test_pcl_gives_the_same_terms_as_distillation_with_nothing_to_distil() -> None:
    batch = fixed_batch()
    pcl = Objective(network("r3d"), ROWS, SMALL, seed=2)(batch)
    kd = KdSettings(pretext_weight=0, contrast_weight=0)
    both = Objective(network("r3d"), ROWS, SMALL, seed=2, teachers=[network("c3d", 1)], kd=kd)(batch)
    assert list(pcl) == ["loss", "pretext", "contrast", "pretext_top1_pct", "embedding_spread"]
    assert list(both) == list(pcl)
    for key in pcl:
        assert torch.equal(pcl[key], both[key]), key


def test_results_are_float32_scalars_and_only_the_loss_carries_a_gradient() -> None:
    objective = Objective(network("r3d"), ROWS, SMALL, seed=0, teachers=[some_teacher()], kd=KdSettings())
    with torch.autocast("cpu", torch.bfloat16):
        got = objective(fixed_batch())
    for key, value in got.items():
        assert value.shape == ()
        assert value.dtype == torch.float32
        assert value.isfinite()
        assert value.requires_grad == (key == "loss")
    got["loss"].backward()  # type: ignore[no-untyped-call]
    assert all(p.grad is not None and p.grad.isfinite().all() for p in objective.student.parameters())


def test_the_loss_is_the_sum_of_the_terms_at_the_published_weights() -> None:
    got = Objective(network("c3d"), ROWS, SMALL, seed=0)(fixed_batch())
    assert float(got["loss"].detach()) == pytest.approx(float(got["pretext"] + 0.5 * got["contrast"]), rel=1e-6)


# --- learning -------------------------------------------------------------------------------------------------------


def descend(objective: Objective, steps: int, lr: float) -> list[dict[str, float]]:
    optimizer = torch.optim.SGD(objective.student.parameters(), lr=lr, momentum=0.9)
    batch, history = fixed_batch(), []
    for _ in range(steps):
        losses = objective(batch)
        optimizer.zero_grad()
        losses["loss"].backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        history.append({key: float(value.detach()) for key, value in losses.items()})
    return history


@pytest.mark.parametrize(
    ("student", "teacher"), [("r3d", None), ("c3d", None), ("r2plus1d", None), ("c3d", "r3d"), ("r3d", "r2plus1d")]
)
def test_fifty_steps_on_one_batch_bring_every_term_down(student: str, teacher: str | None) -> None:
    if teacher is None:
        history = descend(Objective(network(student), ROWS, SMALL, seed=0).train(), 50, lr=0.02)
        terms = ["loss", "pretext", "contrast"]
    else:
        taught = Objective(network(teacher, 7), ROWS, SMALL, seed=1).train()
        descend(taught, 20, lr=0.02)
        assert isinstance(taught.student, PclModel)
        settle(taught.student)
        objective = Objective(
            network(student),
            ROWS,
            SMALL,
            seed=0,
            teachers=[taught.student],
            kd=KdSettings(),
            teacher_banks=[taught.memory_state()["student"]],
        )
        history = descend(objective.train(), 50, lr=0.02)
        terms = ["loss", "pretext", "contrast", "kd_pretext", "kd_contrast"]
    first = {key: np.mean([step[key] for step in history[:3]]) for key in terms}
    last = {key: np.mean([step[key] for step in history[-3:]]) for key in terms}
    for key in terms:
        assert last[key] < 0.5 * first[key], (key, first, last)
    assert history[-1]["pretext_top1_pct"] == 100


# --- the teacher ----------------------------------------------------------------------------------------------------


def test_the_teacher_stays_as_it_was_while_the_student_learns() -> None:
    teacher = some_teacher()
    before = {key: value.clone() for key, value in teacher.state_dict().items()}
    objective = Objective(network("c3d"), ROWS, SMALL, seed=0, teachers=[teacher], kd=KdSettings())
    for mode in (objective.train(), objective.eval(), objective.train()):
        assert not any(module.training for module in mode.teachers.modules())
    assert objective.student.training
    descend(objective, 2, lr=0.1)
    assert all(torch.equal(before[key], value) for key, value in teacher.state_dict().items())
    assert all(p.grad is None and not p.requires_grad for p in teacher.parameters())


def test_the_teacher_sees_the_very_clips_of_the_student() -> None:
    objective = Objective(network("c3d"), ROWS, SMALL, seed=0, teachers=[some_teacher()], kd=KdSettings())
    seen: list[torch.Tensor] = []
    objective.teachers[0].register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    batch = fixed_batch()
    objective(batch)
    assert len(seen) == 1
    assert seen[0].data_ptr() == batch.clips.data_ptr() and torch.equal(seen[0], batch.clips)


def test_the_teacher_works_in_the_callers_autocast() -> None:
    objective = Objective(network("c3d"), ROWS, SMALL, seed=0, teachers=[some_teacher()], kd=KdSettings())
    types: list[torch.dtype] = []
    objective.teachers[0].base_network.register_forward_hook(lambda _, __, out: types.append(out.dtype))
    convolution = objective.teachers[0].base_network.get_submodule("conv1.temporal_spatial_conv")
    convolution.register_forward_hook(lambda _, __, out: types.append(out.dtype))
    with torch.autocast("cpu", torch.bfloat16):
        objective(fixed_batch())
    assert torch.bfloat16 in types


@pytest.mark.parametrize(
    ("pcl", "kd", "present", "calls"),
    [
        ({}, {"pretext_weight": 0, "contrast_weight": 0}, {"pretext", "contrast"}, 0),
        ({}, {"contrast_weight": 0}, {"pretext", "contrast", "kd_pretext"}, 1),
        ({}, {"pretext_weight": 0}, {"pretext", "contrast", "kd_contrast"}, 1),
        ({"contrast_weight": 0}, {"contrast_weight": 0}, {"pretext", "kd_pretext"}, 1),
        ({"pretext_weight": 0, "contrast_weight": 0}, {}, {"kd_pretext", "kd_contrast"}, 1),
        ({"pretext_weight": 0}, {"pretext_weight": 0, "contrast_weight": 0}, {"contrast"}, 0),
    ],
)
def test_a_zero_weight_skips_its_term_and_needless_calls_of_the_teacher(
    pcl: dict[str, float], kd: dict[str, float], present: set[str], calls: int
) -> None:
    settings = PclSettings.model_validate({"negatives": 12, "embedding_dim": DIM, **pcl})
    objective = Objective(
        network("r3d"), ROWS, settings, seed=0, teachers=[some_teacher()], kd=KdSettings.model_validate(kd)
    )
    called: list[int] = []
    objective.teachers[0].register_forward_pre_hook(lambda *_: called.append(1))
    before = {name: bank.clone() for name, bank in objective.memory_state()["teacher"].items()}
    assert bool(before) == ("kd_contrast" in present)
    got = objective(fixed_batch())
    health = {"pretext_top1_pct", "embedding_spread"} | ({"agreement_pct"} if calls else set())
    health |= {f"teacher_entropy_{term.removeprefix('kd_')}" for term in present if term.startswith("kd_")}
    assert set(got) == present | {"loss"} | health
    assert len(called) == calls
    assert all(not torch.equal(bank, objective.memory_state()["teacher"][name]) for name, bank in before.items())
    got["loss"].backward()  # type: ignore[no-untyped-call]
    # Every parameter takes part, so that distributed training does not wait for one that does not.
    assert all(p.grad is not None for p in objective.student.parameters())


def test_skipped_terms_do_not_move_their_head() -> None:
    settings = PclSettings(negatives=12, embedding_dim=DIM, pretext_weight=0)
    objective = Objective(network("r3d"), ROWS, settings, seed=0)
    objective(fixed_batch())["loss"].backward()  # type: ignore[no-untyped-call]
    assert isinstance(objective.student, PclModel)
    assert objective.student.fc.weight.grad is not None
    assert not objective.student.fc.weight.grad.any()


# --- the banks ------------------------------------------------------------------------------------------------------


def test_memory_state_carries_a_run_on_without_the_teachers_weights() -> None:
    def fresh() -> Objective:
        return Objective(network("r3d"), ROWS, SMALL, seed=0, teachers=[some_teacher()], kd=KdSettings()).eval()

    first, batch = fresh(), fixed_batch()
    first(batch)
    saved = {who: {k: v.clone() for k, v in state.items()} for who, state in first.memory_state().items()}
    banks = {who: set(state) for who, state in saved.items() if not who.startswith("hearing")}
    assert banks == {who: {"first", "third"} for who in ("student", "teacher")}
    second = fresh()
    second.load_memory_state(saved)
    goes_on, resumed = first(batch), second(batch)
    for key, value in goes_on.items():
        assert torch.equal(value, resumed[key]), key
    assert not torch.equal(goes_on["contrast"], fresh()(batch)["contrast"])
    assert Objective(network("r3d"), ROWS, SMALL, seed=0).memory_state().keys() == {"student"}


def test_the_teacher_starts_from_the_banks_of_its_own_run() -> None:
    run = Objective(network("r3d"), ROWS, SMALL, seed=4)
    run(fixed_batch())
    own = run.memory_state()["student"]
    with_banks = Objective(
        network("c3d"), ROWS, SMALL, seed=4, teachers=[network("r3d")], kd=KdSettings(), teacher_banks=[own]
    )
    without = Objective(network("c3d"), ROWS, SMALL, seed=4, teachers=[network("r3d")], kd=KdSettings())
    for clip in ("first", "third"):
        assert torch.equal(with_banks.memory_state()["teacher"][clip], own[clip])
        assert not torch.equal(without.memory_state()["teacher"][clip], own[clip])
    # Four banks, and no two start alike.
    memory = without.memory_state()
    starts = [bank for who in ("student", "teacher") for bank in memory[who].values()]
    assert all(not torch.equal(a, b) for i, a in enumerate(starts) for b in starts[:i])


@pytest.mark.parametrize(
    ("banks", "problem"),
    [
        ({"first": torch.zeros(ROWS, DIM)}, "'third' is missing"),
        (
            {"first": torch.zeros(ROWS + 1, DIM), "third": torch.zeros(ROWS, DIM)},
            r"\[25, 16\], this run needs \[24, 16\]",
        ),
    ],
)
def test_banks_that_do_not_fit_are_refused(banks: dict[str, torch.Tensor], problem: str) -> None:
    objective = Objective(network("r3d"), ROWS, SMALL, seed=0)
    with pytest.raises(InputError, match=problem):
        objective.load_memory_state({"student": banks})
    with pytest.raises(InputError, match="no memory banks of the student"):
        objective.load_memory_state({"teacher": banks})
    with pytest.raises(InputError, match=problem):
        Objective(
            network("c3d"), ROWS, SMALL, seed=0, teachers=[network("r3d")], kd=KdSettings(), teacher_banks=[banks]
        )


# --- what does not go together ------------------------------------------------------------------------------------


def test_what_does_not_fit_is_refused() -> None:
    nothing = PclSettings(negatives=12, embedding_dim=DIM, pretext_weight=0, contrast_weight=0)
    with pytest.raises(InputError, match="every loss weight is 0"):
        Objective(network("r3d"), ROWS, nothing, seed=0)
    with pytest.raises(InputError, match="1 training video"):
        Objective(network("r3d"), 1, SMALL, seed=0)
    with pytest.raises(InputError, match="4 pretext classes, the student 5"):
        Objective(network("r3d"), ROWS, SMALL, seed=0, teachers=[network("c3d", classes=4)], kd=KdSettings())
    with pytest.raises(ValueError, match="16 numbers, the settings say 128"):
        Objective(network("r3d"), ROWS, PclSettings(), seed=0)
    with pytest.raises(TypeError, match="Linear"):
        Objective(torch.nn.Linear(2, 2), ROWS, SMALL, seed=0)


@pytest.mark.parametrize(
    ("owner", "field", "value"),
    [
        (PclSettings, "negatives", 0),
        (PclSettings, "nce_temperature", 0),
        (PclSettings, "bank_momentum", 1.0),
        (PclSettings, "bank_momentum", -0.1),
        (PclSettings, "pretext_weight", -1),
        (PclSettings, "contrast_weight", float("nan")),
        (PclSettings, "embedding_dim", 0),
        (KdSettings, "pretext_temperature", 0),
        (KdSettings, "contrast_temperature", float("inf")),
        (KdSettings, "pretext_weight", -0.5),
        (KdSettings, "contrast_weight", float("inf")),
        (KdSettings, "unknown", 1),
    ],
)
def test_settings_out_of_range_are_refused(owner: type[PclSettings], field: str, value: float) -> None:
    with pytest.raises(pydantic.ValidationError, match=field):
        owner.model_validate({field: value})


def test_defaults_are_the_published_ones_and_every_field_has_help() -> None:
    published = {
        "contrast": "bank", "negatives": 1024, "nce_temperature": 0.07, "bank_momentum": 0.5, "pretext_weight": 1.0,
        "contrast_weight": 0.5, "embedding_dim": 128,
    }  # fmt: skip
    assert published.items() <= PclSettings().model_dump().items()
    for owner in (PclSettings, KdSettings):
        assert all(field.description for field in owner.model_fields.values())


def test_the_spread_is_one_for_random_directions_and_zero_for_a_collapse() -> None:
    def spread(first: torch.Tensor) -> float:
        return float(_health(PclOutput(first, first, first, first), ())["embedding_spread"])

    random = torch.nn.functional.normalize(torch.randn(4000, DIM, generator=torch.Generator().manual_seed(0)), dim=1)
    assert spread(random) == pytest.approx(1, abs=0.01)
    assert spread(random[:1].expand(64, -1)) == pytest.approx(0, abs=1e-3)
