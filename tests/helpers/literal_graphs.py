"""Graphs as their definition says, one element at a time."""

import numpy as np


def literal_user_items(pairs: list[tuple[int, int]], n_users: int, n_items: int) -> np.ndarray:
    """D^-1/2 A D^-1/2 of the bipartite graph, with 0 where a node has no neighbour."""
    adjacency = np.zeros((n_users + n_items, n_users + n_items))
    for user, item in pairs:
        adjacency[user, n_users + item] = adjacency[n_users + item, user] = 1.0
    degree = adjacency.sum(1)
    inverse = np.zeros_like(degree)
    inverse[degree > 0] = degree[degree > 0] ** -0.5
    return inverse[:, None] * adjacency * inverse[None, :]


def literal_nearest(vectors: np.ndarray, k: int) -> list[list[int]]:
    """Neighbours of each item, itself first, then by cosine and id; an item of zeros has none."""
    present = [item for item in range(len(vectors)) if vectors[item].any()]
    result: list[list[int]] = [[] for _ in vectors]
    for item in present:
        own = vectors[item].astype(np.float64)
        keys = []
        for other in present:
            if other != item:
                theirs = vectors[other].astype(np.float64)
                cosine = own @ theirs / np.sqrt((own @ own) * (theirs @ theirs))
                keys.append((-round(cosine, 9), other))
        result[item] = [item, *(other for _, other in sorted(keys))][:k]
    return result


def literal_items(tables: list[np.ndarray], weights: list[float], k: int) -> np.ndarray:
    matrix = np.zeros((len(tables[0]), len(tables[0])))
    for table, weight in zip(tables, weights, strict=True):
        for item, neighbours in enumerate(literal_nearest(table, k)):
            for other in neighbours:
                matrix[item, other] += weight / len(neighbours)
    return matrix
