import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pclkd.training.objective.softened import soft_kl


def kl_in_float64(student: np.ndarray, teacher: np.ndarray, temperature: float) -> float:
    """T^2 * mean over rows of sum p log(p / q), from the definition."""
    total = 0.0
    for s, t in zip(student.astype(np.float64), teacher.astype(np.float64), strict=True):
        p, q = np.exp((t - t.max()) / temperature), np.exp((s - s.max()) / temperature)
        p, q = p / p.sum(), q / q.sum()
        total += float(sum(a * np.log(a / b) for a, b in zip(p, q, strict=True)))
    return temperature**2 * total / len(student)


@given(
    batch=st.integers(1, 6), classes=st.integers(2, 40), temperature=st.floats(0.2, 20), scale=st.floats(0.1, 8),
    seed=st.integers(0, 2**31),
)  # fmt: skip
@settings(max_examples=100, deadline=None)
def test_value_against_the_definition_in_float64(
    batch: int, classes: int, temperature: float, scale: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    student, teacher = (rng.normal(0, scale, (batch, classes)).astype(np.float32) for _ in range(2))
    got = soft_kl(torch.from_numpy(student), torch.from_numpy(teacher), temperature)
    expected = kl_in_float64(student, teacher, temperature)
    # Float32 rounds each log-probability by about 1e-7 of its size; T^2 scales that too.
    assert float(got) == pytest.approx(expected, rel=1e-3, abs=2e-6 * max(1.0, temperature**2))


def test_direction_is_teacher_then_student() -> None:
    sure, unsure = torch.tensor([[4.0, 0.0, 0.0]]), torch.tensor([[1.0, 0.0, 0.0]])
    there, back = float(soft_kl(unsure, sure, 1.0)), float(soft_kl(sure, unsure, 1.0))
    assert there == pytest.approx(kl_in_float64(unsure.numpy(), sure.numpy(), 1.0), rel=1e-5)
    assert abs(there - back) > 0.1


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_gradient_is_the_difference_of_the_softened_distributions_and_only_the_students(temperature: float) -> None:
    student = torch.randn(5, 7, requires_grad=True)
    teacher = torch.randn(5, 7, requires_grad=True)
    soft_kl(student, teacher, temperature).backward()  # type: ignore[no-untyped-call]
    assert student.grad is not None
    assert teacher.grad is None
    # d/ds of T^2 KL / B = T (q - p) / B.
    difference = (student / temperature).softmax(1) - (teacher / temperature).softmax(1)
    torch.testing.assert_close(student.grad, temperature * difference.detach() / 5, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_result_is_float32_from_any_type_and_under_autocast(dtype: torch.dtype) -> None:
    student, teacher = torch.randn(4, 300).to(dtype), torch.randn(4, 300).to(dtype)
    with torch.autocast("cpu", torch.bfloat16):
        got = soft_kl(student, teacher, 2.0)
    assert got.dtype == torch.float32
    expected = kl_in_float64(student.double().numpy(), teacher.double().numpy(), 2.0)
    assert float(got) == pytest.approx(expected, rel=1e-4)


def test_a_teacher_in_inference_mode_can_be_learned_from() -> None:
    with torch.inference_mode():
        teacher = torch.randn(3, 5)
    student = torch.randn(3, 5, requires_grad=True)
    soft_kl(student, teacher, 1.0).backward()  # type: ignore[no-untyped-call]
    assert student.grad is not None


def test_shapes_that_would_only_broadcast_are_refused() -> None:
    with pytest.raises(ValueError, match="differ"):
        soft_kl(torch.zeros(4, 5), torch.zeros(1, 5), 1.0)
