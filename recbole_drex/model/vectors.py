"""Vectors of users and items, for use outside the model."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from recbole_drex.model.contract import ModelContract
from recbole_drex.recbole import Interaction


@torch.no_grad()
def vectors_of(model: Any) -> tuple[torch.Tensor, torch.Tensor] | None:
    """The vectors of all users (n_users, d) and items (n_items, e) by internal id, padding first.

    For this project's models: what :meth:`~recbole_drex.model.contract.ModelContract.vectors` returns. For RecBole's:
    the vectors cached after propagation over a graph (LightGCN, NGCF, ...), or else the embeddings of users and items,
    concatenated if there are several (NeuMF).

    Returns:
        None if the model has no vectors of users or of items.
    """
    if isinstance(model, ModelContract):
        return model.vectors()
    if hasattr(model, "restore_user_e"):
        if model.restore_user_e is None:
            model.full_sort_predict(Interaction({model.USER_ID: torch.tensor([1])}).to(model.device))
        return model.restore_user_e, model.restore_item_e
    users, items = (
        [
            layer.weight[:n]
            for name, layer in model.named_children()
            if isinstance(layer, nn.Embedding) and side in name and len(layer.weight) >= n and layer.embedding_dim > 1
        ]
        for side, n in (("user", model.n_users), ("item", model.n_items))
    )
    return (torch.cat(users, 1), torch.cat(items, 1)) if users and items else None
