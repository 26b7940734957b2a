"""Selects the explanation functions of a model by its class.

To explain your own model, register a function for its class::

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
    """The prediction of a model for a user and an item, with counterfactual predictions.

    Args:
        model: trained.
        user, item: internal ids.

    Raises:
        DataError: no function is registered for this model.
    """
    raise DataError(f"no counterfactual predictions are defined for {type(model).__name__}")


counterfactual_for.register(DReX, DReXCounterfactual.of)
counterfactual_for.register(EMF, EMFCounterfactual)
counterfactual_for.register(NARRE, NARRECounterfactual)


@singledispatch
def neighbours_of(model: Any, user: int, item: int) -> NeighbourExplanation | None:
    """Ratings of an item by a user's neighbours; None for models without neighbours."""
    return None


neighbours_of.register(EMF, explain_by_neighbours)


def explains(model: Any) -> bool:
    """Whether a model offers explanations of any kind: counterfactual predictions or generated sentences."""
    return counterfactual_class(model) is not None or contract_of(model).writes


def counterfactual_class(model: Any) -> type[Counterfactual] | None:
    """The class that :func:`counterfactual_for` returns for a model; None if no function is registered for it."""
    function = counterfactual_for.dispatch(type(model))
    if function is counterfactual_for.dispatch(object):
        return None
    owner = getattr(function, "__self__", function)
    return owner if isinstance(owner, type) else Counterfactual
