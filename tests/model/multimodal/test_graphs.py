"""Graphs of users and items against dense matrices that are written out."""

from __future__ import annotations

import subprocess
import sys

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from literal_graphs import literal_items, literal_nearest, literal_user_items

from recbole_drex.model.multimodal import graphs
from recbole_drex.model.multimodal.graphs import Graph, item_graph, nearest, user_item_graph


@hypothesis.given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 4)), max_size=30))
@hypothesis.settings(max_examples=50, deadline=None)
def test_user_item_graph_is_the_normalised_adjacency(pairs):
    user, item = torch.tensor(pairs, dtype=torch.long).reshape(-1, 2).T
    graph = user_item_graph(user, item, 7, 5)
    assert graph.layout == torch.sparse_csr and graph.dtype == torch.float32
    np.testing.assert_allclose(graph.to_dense(), literal_user_items(pairs, 7, 5), atol=1e-7)


# Few distinct whole numbers make many ties, zero rows and twins.
tables = st.integers(1, 9).flatmap(
    lambda n: st.lists(st.lists(st.integers(-1, 2), min_size=3, max_size=3), min_size=n, max_size=n)
)


@hypothesis.given(tables, st.integers(1, 12), st.sampled_from([8, 8 * 9 * 2, graphs._BLOCK_BYTES]))
@hypothesis.settings(max_examples=150, deadline=None)
def test_nearest_items_ties_by_id_and_zero_vectors(rows, k, block):
    vectors = torch.tensor(rows, dtype=torch.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graphs, "_BLOCK_BYTES", block)  # one item at a time, a few, all
        item, neighbour = nearest(vectors, k)
    expected = literal_nearest(vectors.numpy(), k)
    assert item.tolist() == [number for number, row in enumerate(rows) if any(row)]
    assert neighbour.tolist() == [expected[number] for number in item]


def test_nearest_items_of_vectors_like_an_encoders():
    rng = np.random.default_rng(4)
    vectors = (rng.normal(size=(300, 16)) + 2.0).astype(np.float32)  # all much alike, as means of words are
    vectors[[3, 77, 200]] = 0.0
    vectors[250:270] = vectors[10]  # twins, more than there are neighbours
    vectors[40] = vectors[41] * 3.0
    item, neighbour = nearest(torch.from_numpy(vectors), 10)
    expected = literal_nearest(vectors, 10)
    assert neighbour.tolist() == [expected[number] for number in item]
    assert neighbour[item == 260].tolist() == [[260, 10, *range(250, 258)]]
    assert neighbour[item == 40, :2].tolist() == [[40, 41]]


def test_item_graph_is_the_weighted_sum_of_the_modalities():
    rng = np.random.default_rng(5)
    text, image = rng.normal(size=(2, 12, 4)).astype(np.float32)
    text[[0, 5]] = 0.0
    image[[0, 7, 8]] = 0.0
    graph = item_graph([torch.from_numpy(text), torch.from_numpy(image)], [0.3, 0.7], k=4).to_dense()
    np.testing.assert_allclose(graph, literal_items([text, image], [0.3, 0.7], 4), atol=1e-7)
    assert not graph[0].any() and not graph[:, 0].any()
    np.testing.assert_allclose(graph[[1, 5, 7]].sum(1), [1.0, 0.7, 0.3], atol=1e-6)
    edges = item_graph([torch.from_numpy(text)], [1.0], k=4)
    assert edges.values().tolist() == [0.25] * 40  # ten items that have text, four edges each


def test_fewer_items_than_neighbours_and_none_at_all():
    table = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    np.testing.assert_allclose(item_graph([table], [1.0], k=10).to_dense()[1:, 1:], np.full((2, 2), 0.5))
    assert not item_graph([torch.zeros(3, 2)], [1.0], k=2).to_dense().any()


@pytest.mark.parametrize("symmetric", (True, False))
def test_product_and_its_gradient(symmetric):
    rng = np.random.default_rng(6)
    if symmetric:
        matrix = user_item_graph(torch.tensor([0, 0, 1, 3]), torch.tensor([0, 2, 1, 2]), 4, 3)
    else:
        matrix = item_graph([torch.from_numpy(rng.normal(size=(7, 3)))], [1.0], k=3)
        assert not torch.equal(matrix.to_dense(), matrix.to_dense().T)
    graph, dense = Graph(matrix, symmetric), torch.from_numpy(rng.normal(size=(7, 5))).float().requires_grad_()
    toward = torch.from_numpy(rng.normal(size=(7, 5))).float()
    np.testing.assert_allclose(graph(dense).detach(), matrix.to_dense() @ dense.detach(), atol=1e-6)
    (graph(dense) * toward).sum().backward()
    np.testing.assert_allclose(dense.grad, matrix.to_dense().T @ toward, atol=1e-6)
    # By finite differences, with a step that float32 resolves: the product is linear.
    step = torch.zeros(7, 5)
    step[2, 3] = 0.5
    with torch.no_grad():
        slope = ((graph(dense + step) - graph(dense - step)) * toward).sum()
    assert slope.item() == pytest.approx(dense.grad[2, 3].item(), abs=1e-5)


@pytest.mark.slow
def test_fifty_thousand_items_fit_into_two_gigabytes():
    """In a process of its own, whose largest memory is its own; takes a minute and a half on an idle core."""
    code = (
        "import resource, torch; from recbole_drex.model.multimodal.graphs import item_graph;"
        "g = item_graph([torch.randn(50_000, 384)], [1.0], 10);"
        "print(g._nnz(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    edges, megabytes = map(int, done.stdout.split())
    assert edges == 500_000 and megabytes < 2048
