"""Gradients of large embeddings are the dense ones, written row by row."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import register_parametrization

from skprotolm._training.row_gradients import RowGradients

MANY = 5000  # rows of an embedding that is large
BATCHES = [[3, 8, 3, 4999], [8, 0], [1, 1, 2]]


class Reader(nn.Module):
    """An embedding, and what reads it."""

    def __init__(self, n_rows: int = MANY):
        super().__init__()
        self.embedding = nn.Embedding(n_rows, 4, padding_idx=0)
        self.linear = nn.Linear(4, 2)

    def forward(self, ids: Tensor) -> Tensor:
        return self.linear(self.embedding(ids)).square().sum()


class Shared(Reader):
    """A second module has the same weight."""

    def __init__(self) -> None:
        super().__init__()
        self.other = nn.Embedding(MANY, 4)
        self.other.weight = self.embedding.weight

    def forward(self, ids: Tensor) -> Tensor:
        return super().forward(ids) + self.other(ids.flip(0) // 2).square().sum()


class Tied(Reader):
    """The weight is multiplied, too."""

    def forward(self, ids: Tensor) -> Tensor:
        logits = self.embedding(ids) @ self.embedding.weight.T
        return super().forward(ids) + logits.logsumexp(1).sum()


def gradients(module: nn.Module, rows: RowGradients | None) -> list[list[Tensor]]:
    """Return the gradients of all parameters at each batch, after optimizer steps."""
    optimizer = torch.optim.AdamW(module.parameters(), lr=0.1)
    found = []
    for batch in BATCHES:
        optimizer.zero_grad()
        if rows is None:
            module(torch.tensor(batch)).backward()
        else:
            with rows.collected():
                module(torch.tensor(batch)).backward()
            rows.complete()
        found.append([p.grad.clone() for p in module.parameters()])
        optimizer.step()
    return found


@pytest.mark.parametrize("make", [Reader, Shared, Tied])
def test_gradients_are_those_of_a_dense_backward_pass(make):
    module = make()
    expected = gradients(copy.deepcopy(module), None)
    found = gradients(module, RowGradients(module))
    for of_batch, expected_of_batch in zip(found, expected, strict=True):
        for gradient, other in zip(of_batch, expected_of_batch, strict=True):
            torch.testing.assert_close(gradient, other)


def test_rows_of_the_last_batch_are_zero_again():
    module = Reader()
    first, second, _ = (found[0] for found in gradients(module, RowGradients(module)))
    assert first[4999].any()
    assert not second[4999].any()
    assert second[8].any()


def test_gradients_of_several_backward_passes_add_up():
    module = Reader()
    rows = RowGradients(module)
    with rows.collected():
        for batch in BATCHES:
            module(torch.tensor(batch)).backward()
    rows.complete()
    other = copy.deepcopy(module)
    other.zero_grad()
    for batch in BATCHES:
        other(torch.tensor(batch)).backward()
    torch.testing.assert_close(
        module.embedding.weight.grad, other.embedding.weight.grad
    )


@pytest.mark.parametrize("n_rows", [4095, 4096])
def test_only_large_embeddings_return_rows(n_rows):
    module = Reader(n_rows)
    rows = RowGradients(module)
    with rows.collected():
        module(torch.tensor([1])).backward()
    assert module.embedding.weight.grad.is_sparse == (n_rows == 4096)


def test_frozen_embeddings_and_those_that_return_rows_anyway_stay_as_they_are():
    frozen, sparse = Reader(), Reader()
    frozen.embedding.requires_grad_(False)
    sparse.embedding.sparse = True
    for module in (frozen, sparse):
        before = module.embedding.sparse
        with RowGradients(module).collected():
            assert module.embedding.sparse == before
        assert module.embedding.sparse == before


def test_a_weight_that_is_computed_has_a_dense_gradient():
    """Clipping failed: the rows reached a weight that was not known."""

    class Doubled(nn.Module):
        def forward(self, weight: Tensor) -> Tensor:
            return 2 * weight

    module = Reader()
    register_parametrization(module.embedding, "weight", Doubled())
    with RowGradients(module).collected():
        module(torch.tensor([1, 2])).backward()
    assert not any(p.grad.is_sparse for p in module.parameters())


def test_an_error_in_a_step_leaves_the_embedding_as_it_was():
    module = Reader()
    with pytest.raises(KeyboardInterrupt), RowGradients(module).collected():
        raise KeyboardInterrupt
    assert not module.embedding.sparse
