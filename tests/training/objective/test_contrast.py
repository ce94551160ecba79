import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pclkd.sharding.common.errors import InputError
from pclkd.training.objective.bank import MemoryBank, nce_indices, nce_logits
from pclkd.training.objective.terms import nce_loss


@given(
    rows=st.integers(2, 200), negatives=st.integers(1, 50), seed=st.integers(0, 2**64 - 1), epoch=st.integers(0, 999),
    data=st.data(),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_the_first_column_is_the_own_row_and_no_other_is(
    rows: int, negatives: int, seed: int, epoch: int, data: st.DataObject
) -> None:
    own = torch.tensor(data.draw(st.lists(st.integers(0, rows - 1), min_size=1, max_size=8)))
    index = nce_indices(seed, epoch, own, negatives, rows)
    assert index.shape == (len(own), 1 + negatives)
    assert index.dtype == torch.int64
    assert torch.equal(index[:, 0], own)
    assert (index[:, 1:] != own[:, None]).all()
    assert int(index.min()) >= 0
    assert int(index.max()) < rows
    # Each row is drawn for itself: other samples of the batch, and so other processes, change nothing.
    alone = torch.cat([nce_indices(seed, epoch, one, negatives, rows) for one in own.split(1)])
    assert torch.equal(index, alone)


def test_negatives_are_uniform_over_the_other_rows() -> None:
    rows, n = 7, 60_000
    for own in (0, 3, 6):
        drawn = nce_indices(1, 0, torch.tensor([own]), n, rows)[0, 1:].numpy()
        counts = np.bincount(drawn, minlength=rows)
        assert counts[own] == 0
        deviation = np.sqrt(n * (1 / 6) * (5 / 6))
        assert np.abs(np.delete(counts, own) - n / 6).max() < 6 * deviation


def test_epochs_draw_other_negatives() -> None:
    own = torch.arange(4)
    first, second = (nce_indices(1, epoch, own, 64, 10_000)[:, 1:] for epoch in (0, 1))
    assert (first == second).float().mean() < 0.05


@pytest.mark.parametrize("rows", [0, 1])
def test_nothing_to_compare_with_is_refused(rows: int) -> None:
    with pytest.raises(InputError, match=f"{rows} video"):
        nce_indices(0, 0, torch.tensor([0]), 4, rows)


@pytest.mark.parametrize(
    ("batch", "negatives", "dim", "temperature"), [(1, 1, 2, 1.0), (4, 16, 8, 0.07), (7, 100, 128, 0.5)]
)
def test_logits_and_loss_against_float64(batch: int, negatives: int, dim: int, temperature: float) -> None:
    bank = MemoryBank(50, dim, seed=2)
    embeddings = torch.nn.functional.normalize(torch.randn(batch, dim), dim=1)
    index = nce_indices(5, 1, torch.arange(batch), negatives, 50)
    logits = nce_logits(bank, embeddings, index, temperature)
    rows, wide, chosen = (x.numpy().astype(t) for x, t in ((bank.rows, "f8"), (embeddings, "f8"), (index, "i8")))
    expected = np.stack([rows[chosen[b]] @ wide[b] / temperature for b in range(batch)])
    np.testing.assert_allclose(logits.numpy(), expected, rtol=1e-4, atol=1e-4)
    # -log of the softmax share of the positive.
    share = np.exp(expected[:, 0]) / np.exp(expected).sum(axis=1)
    assert float(nce_loss(logits)) == pytest.approx(float(-np.log(share).mean()), rel=1e-4, abs=1e-6)


def test_equal_similarities_cost_the_log_of_the_number_of_rows() -> None:
    assert float(nce_loss(torch.zeros(3, 1025))) == pytest.approx(np.log(1025), rel=1e-6)
