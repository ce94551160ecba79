import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pclkd.training.objective.bank import MemoryBank


def unit(batch: int, dim: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.nn.functional.normalize(torch.randn(batch, dim, generator=generator), dim=1)


def test_rows_start_as_distinct_unit_vectors_without_a_common_direction() -> None:
    rows = MemoryBank(500, 64, seed=3).rows
    assert rows.dtype == torch.float32
    assert (rows.norm(dim=1) - 1).abs().max() < 1e-6
    similarity = rows @ rows.T - torch.eye(500)
    # Random directions in d dimensions have cosines of deviation 1/sqrt(d).
    assert float(similarity.max()) < 6 / 8
    assert abs(float(similarity.std()) - 1 / 8) < 0.01
    assert float(rows.mean(dim=0).norm()) < 0.1


def test_the_start_is_a_pure_function_of_seed_and_number() -> None:
    bank = MemoryBank(20, 8, seed=3, which=1).rows
    torch.manual_seed(99)
    assert torch.equal(bank, MemoryBank(20, 8, seed=3, which=1).rows)
    assert not torch.isclose(bank, MemoryBank(20, 8, seed=3, which=0).rows).all(dim=1).any()
    assert not torch.isclose(bank, MemoryBank(20, 8, seed=4, which=1).rows).all(dim=1).any()
    # A row does not depend on how many there are.
    assert torch.equal(bank[:7], MemoryBank(7, 8, seed=3, which=1).rows)


@given(batch=st.integers(1, 6), chosen=st.integers(1, 9), dim=st.integers(1, 12), seed=st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_similarity_is_the_dot_product_with_each_chosen_row(batch: int, chosen: int, dim: int, seed: int) -> None:
    bank = MemoryBank(10, dim, seed=seed)
    embeddings = unit(batch, dim, seed)
    index = np.random.default_rng(seed).integers(0, 10, (batch, chosen))
    got = bank.similarity(embeddings, torch.from_numpy(index)).numpy()
    rows, wide = bank.rows.numpy().astype(np.float64), embeddings.numpy().astype(np.float64)
    expected = [[float(wide[b] @ rows[index[b, k]]) for k in range(chosen)] for b in range(batch)]
    np.testing.assert_allclose(got, expected, atol=1e-6)


@given(
    momentum=st.floats(0, 0.99),
    where=st.lists(st.integers(0, 4), min_size=1, max_size=9),
    seed=st.integers(0, 99),
)
@settings(max_examples=60, deadline=None)
def test_update_moves_each_row_once_towards_its_last_embedding(momentum: float, where: list[int], seed: int) -> None:
    bank = MemoryBank(5, 6, momentum, seed=seed)
    expected = bank.rows.numpy().astype(np.float64)
    embeddings = unit(len(where), 6, seed)
    for row in set(where):
        last = max(i for i, other in enumerate(where) if other == row)
        moved = momentum * expected[row] + (1 - momentum) * embeddings[last].numpy().astype(np.float64)
        expected[row] = moved / np.linalg.norm(moved)
    bank.update(embeddings, torch.tensor(where))
    np.testing.assert_allclose(bank.rows.numpy(), expected, atol=1e-5)


def test_the_gradient_goes_to_the_embeddings_and_survives_an_update_before_the_backward_pass() -> None:
    bank = MemoryBank(10, 4)
    before = bank.rows.clone()
    embeddings = unit(2, 4, 0).requires_grad_()
    index = torch.tensor([[1, 2, 3], [4, 1, 1]])
    similarity = bank.similarity(embeddings, index)
    bank.update(embeddings, index[:, 0])
    assert not torch.equal(bank.rows, before)
    similarity.sum().backward()  # type: ignore[no-untyped-call]
    assert embeddings.grad is not None
    torch.testing.assert_close(embeddings.grad, before[index].sum(dim=1))
    assert not bank.rows.requires_grad


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_updates_stay_in_float32_whatever_the_embeddings_are(dtype: torch.dtype) -> None:
    bank = MemoryBank(10, 4)
    bank.update(unit(2, 4, 0).to(dtype), torch.tensor([3, 7]))
    assert bank.rows.dtype == torch.float32
    assert (bank.rows.norm(dim=1) - 1).abs().max() < 1e-6


def test_an_embedding_that_is_not_finite_leaves_its_row() -> None:
    bank = MemoryBank(5, 4, seed=0)
    before = bank.rows.clone()
    embeddings = torch.nn.functional.normalize(torch.ones(2, 4), dim=1)
    embeddings[1, 2] = float("nan")
    bank.update(embeddings, torch.tensor([3, 1]))
    assert torch.equal(bank.rows[1], before[1])
    assert not torch.equal(bank.rows[3], before[3])
    assert bank.rows.isfinite().all()
