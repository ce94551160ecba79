"""Terms that users register: weighted, faded and remembered as the built-in ones, and refused where they do not fit."""

import pytest
import torch
from torch import nn

from pclkd.pipeline.batch import ClipBatch
from pclkd.sharding.common.errors import InputError
from pclkd.training import Seen, Term, register_term
from pclkd.training.models.pcl_model import PclModel
from pclkd.training.models.registry import build_backbone
from pclkd.training.objective.objective import KdSettings, Objective, PclSettings, adapter_dims
from pclkd.training.settings import RunSettings, describe, override

ROWS, DIM, BATCH = 8, 16, 2
NOTHING_ELSE = {"pretext_weight": 0, "contrast_weight": 0}

pytestmark = pytest.mark.usefixtures("one_thread")


class Drift(Term):
    """Distance of the student's mean feature from a running mean of the teachers', which it remembers."""

    name, title, unit = "drift", "Distance from the teachers' mean", "feature units"
    asks_teachers = True
    mean: torch.Tensor

    def __init__(self, weight: float) -> None:
        super().__init__(weight)
        self.register_buffer("mean", torch.zeros(()))

    def forward(self, seen: Seen) -> torch.Tensor:
        value = (seen.student.features.mean() - self.mean).abs()
        self.mean.lerp_(torch.stack([said.features.mean() for said in seen.teachers]).mean(), 0.5)
        return value


class Length(Term):
    """Mean squared length of what the student's maps make of its features."""

    name, title, unit = "length", "Squared length", "squared length"
    reads = frozenset({"adapted"})
    asks_teachers = True

    def forward(self, seen: Seen) -> torch.Tensor:
        return torch.stack([own.square().sum(-1).mean() for own in seen.student.adapted]).mean()


class Margin(Term):
    """How far the first clip's own partner leads."""

    name, title, unit = "margin", "Margin", "similarity"
    asks_contrast = True

    def forward(self, seen: Seen) -> torch.Tensor:
        assert seen.contrast is not None
        return (seen.contrast[0][:, 1:].mean(1) - seen.contrast[0][:, 0]).mean()


class Learned(Term):
    name, title, unit = "learned", "A head of its own", "nats"

    def __init__(self, weight: float) -> None:
        super().__init__(weight)
        self.head = nn.Linear(2, 2)

    def forward(self, seen: Seen) -> torch.Tensor:
        return self.head.weight.sum() + seen.student.first.sum()


for own in (Drift, Length, Margin, Learned):
    register_term(own)


def network(seed: int = 0, adapters: tuple[int, ...] = ()) -> PclModel:
    torch.manual_seed(seed)
    return PclModel(build_backbone("r3d", 0.125), embedding_dim=DIM, adapter_dims=adapters).eval()


def batch_of(epoch: int = 0) -> ClipBatch:
    number = torch.arange(BATCH)
    clips = torch.randn(BATCH, 3, 3, 8, 32, 32, generator=torch.Generator().manual_seed(epoch))
    return ClipBatch(clips, number % 5, number, number, epoch=epoch, valid=BATCH)


def settings(own_terms: dict[str, float], **changes: object) -> PclSettings:
    return PclSettings.model_validate({"negatives": 4, "embedding_dim": DIM, "own_terms": own_terms, **changes})


def test_a_term_that_asks_teachers_fades_in_and_its_buffers_are_memory() -> None:
    kd = KdSettings(pretext_weight=0, contrast_weight=0, warmup_epochs=4)

    def fresh() -> Objective:
        pcl = settings({"drift": 0.5, "length": 0}, contrast_weight=0)
        return Objective(network(), ROWS, pcl, 0, teachers=[network(1)], kd=kd).eval()

    objective, mean = fresh(), 0.0
    assert "drift" not in objective(batch_of(0))
    for epoch, share in ((1, 0.25), (3, 0.75), (6, 1.0)):
        got = objective(batch_of(epoch))
        with torch.no_grad():
            student, teacher = (float(net(batch_of(epoch).clips).features.mean()) for net in (network(), network(1)))
        assert float(got["drift"]) == pytest.approx(abs(student - mean), rel=1e-4)
        expected = float(got["pretext"]) + share * 0.5 * float(got["drift"])
        assert float(got["loss"].detach()) == pytest.approx(expected, rel=1e-5)
        mean = (mean + teacher) / 2
    got["loss"].backward()  # type: ignore[no-untyped-call]
    assert all(p.grad is not None for p in objective.student.parameters())
    resumed = fresh()
    memory = objective.memory_state()
    resumed.load_memory_state(
        {owner: {name: value.clone() for name, value in memory[owner].items()} for owner in memory}
    )
    assert torch.equal(resumed(batch_of(7))["drift"], objective(batch_of(7))["drift"])
    with pytest.raises(InputError, match="memory 'mean' is missing"):
        fresh().load_memory_state({"student": {}, "teacher": {}})


def test_a_term_that_reads_maps_gets_them() -> None:
    teachers, kd, pcl = [network(1)], KdSettings.model_validate(NOTHING_ELSE), settings({"length": 2}, **NOTHING_ELSE)
    dims = adapter_dims(teachers, pcl, kd)
    assert dims == [teachers[0].base_network.feature_dim]
    assert adapter_dims(teachers, settings({"length": 0}), kd) == []
    objective = Objective(network(0, tuple(dims)), ROWS, pcl, 0, teachers=teachers, kd=kd)
    got = objective(batch_of())
    assert float(got["loss"].detach()) == pytest.approx(2 * float(got["length"]), rel=1e-6)
    got["loss"].backward()  # type: ignore[no-untyped-call]
    assert all(p.grad is not None for p in objective.student.parameters())


def test_a_term_may_be_the_only_one_that_asks_for_contrast() -> None:
    got = Objective(network(), ROWS, settings({"margin": 1}, contrast_weight=0), 0)(batch_of())
    assert set(got) == {"loss", "pretext", "margin", "pretext_top1_pct", "embedding_spread"}


def test_every_term_is_told_by_title_and_unit() -> None:
    objective = Objective(network(), ROWS, settings({"margin": 1}), 0)
    assert objective.legend() == {
        "pretext": {"title": "Pretext cross-entropy", "unit": "nats"},
        "contrast": {"title": "Contrast: NCE of clips 1 and 3", "unit": "nats"},
        "margin": {"title": "Margin", "unit": "similarity"},
    }


@pytest.mark.parametrize(
    ("own", "changes", "problem", "remedy"),
    [
        ({"drfit": 0.5}, {}, "pcl.own_terms.drfit=0.5", "'drift'"),
        ({"drift": 0.5}, {}, "drift=0.5 asks for a teacher", "pcl.own_terms.drift=0"),
        ({"margin": 1}, {"contrast": "none"}, "margin=1 asks for something to contrast", "pcl.own_terms.margin=0"),
        ({"learned": 1}, {}, "'learned' has weights of its own", "buffers"),
    ],
)
def test_a_term_that_does_not_fit_is_refused(
    own: dict[str, float], changes: dict[str, object], problem: str, remedy: str
) -> None:
    with pytest.raises(InputError, match=problem) as refused:
        Objective(network(), ROWS, settings(own, **changes), 0)
    assert remedy in refused.value.remedy


@pytest.mark.parametrize(
    ("said", "problem", "remedy"),
    [
        ({"name": "kd_feature"}, "'kd_feature' exists already", "another name"),
        ({"name": "embedding_spread"}, "'embedding_spread' exists already", "another name"),
        ({"name": "margin"}, "'margin' exists already", "another name"),
        ({"name": "a.b"}, "'a.b'", "letters, digits"),
        ({"unit": None}, "Term has no unit|Told has no unit", "unit ="),
        ({"reads": frozenset({"firts"})}, "reads 'firts'", "'first'"),
    ],
)
def test_a_term_must_say_what_it_is(said: dict[str, object], problem: str, remedy: str) -> None:
    with pytest.raises(InputError, match=problem) as refused:
        register_term(type("Told", (Term,), {"name": "told", "title": "Told", "unit": "nats", **said}))
    assert remedy in refused.value.remedy


def test_only_terms_are_registered() -> None:
    with pytest.raises(InputError, match="is no class of terms"):
        register_term(nn.Linear)  # type: ignore[arg-type]


def test_weights_are_set_one_by_one() -> None:
    changed = override(RunSettings(), ["pcl.own_terms.drift=0.5", "pcl.own_terms.length=2"])
    assert changed.pcl.own_terms == {"drift": 0.5, "length": 2}
    (line,) = (line for line in describe(changed).splitlines() if line.startswith("pcl.own_terms"))
    again = override(RunSettings(), [line.partition("  # ")[0].strip().replace(" = ", "=")])
    assert again == changed
    with pytest.raises(InputError, match=r"--set pcl\.own_terms\.drift=-1"):
        override(RunSettings(), ["pcl.own_terms.drift=-1"])
    with pytest.raises(InputError, match=r"pcl\.own_term\.drift: no such") as refused:
        override(RunSettings(), ["pcl.own_term.drift=1"])
    assert "pcl.own_terms" in refused.value.remedy
