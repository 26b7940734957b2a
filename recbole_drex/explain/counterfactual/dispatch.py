"""Finds what explains a model's predictions, by the class of the model.

A model of one's own is explained, too, once a function is registered for its class::

    @counterfactual_for.register
    def _(model: MyModel, user: int, item: int) -> Counterfactual: ...
"""

from __future__ import annotations

from functools import singledispatch
from typing import Any

from recbole_drex.errors import DataError
from recbole_drex.explain.counterfactual.base import Counterfactual
from recbole_drex.explain.counterfactual.drex_counterfactual import DReXCounterfactual
from recbole_drex.explain.counterfactual.emf_counterfactual import EMFCounterfactual, explain_by_neighbours
from recbole_drex.explain.counterfactual.narre_counterfactual import NARRECounterfactual
from recbole_drex.explain.explanation import NeighbourExplanation
from recbole_drex.model.contract import contract_of
from recbole_drex.model.drex.drex import DReX
from recbole_drex.model.factorization.emf import EMF
from recbole_drex.model.review_based.narre import NARRE


@singledispatch
def counterfactual_for(model: Any, user: int, item: int) -> Counterfactual:
    """The prediction of a model for a user and an item, and what it would be without some of its evidence.

    Args:
        model: trained.
        user, item: internal ids.

    Raises:
        DataError: nothing is registered for this model.
    """
    raise DataError(f"no counterfactual predictions are defined for {type(model).__name__}")


counterfactual_for.register(DReX, DReXCounterfactual.of)
counterfactual_for.register(EMF, EMFCounterfactual)
counterfactual_for.register(NARRE, NARRECounterfactual)


@singledispatch
def neighbours_of(model: Any, user: int, item: int) -> NeighbourExplanation | None:
    """What users near to a user say of an item; None of models without neighbours."""
    return None


neighbours_of.register(EMF, explain_by_neighbours)


def explains(model: Any) -> bool:
    """Whether a model gives reasons of any kind: what its predictions rest on, or a sentence."""
    return counterfactual_class(model) is not None or contract_of(model).writes


def counterfactual_class(model: Any) -> type[Counterfactual] | None:
    """The class of what :func:`counterfactual_for` returns for a model; None if nothing is registered for it."""
    found = counterfactual_for.dispatch(type(model))
    if found is counterfactual_for.dispatch(object):
        return None
    owner = getattr(found, "__self__", found)
    return owner if isinstance(owner, type) else Counterfactual
