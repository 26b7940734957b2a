"""Selects what explains a model by the model's class.

To explain your own model, register the class of its counterfactual predictions::

    @counterfactual_class.register
    def _(model: MyModel) -> type[Counterfactual]:
        return MyCounterfactual
"""

from __future__ import annotations

from functools import singledispatch
from typing import Any

from recbole_drex.errors import DataError
from recbole_drex.explain.counterfactual.base import Counterfactual
from recbole_drex.explain.counterfactual.drex_counterfactual import DReXCounterfactual
from recbole_drex.explain.counterfactual.emf_counterfactual import EMFCounterfactual, explain_by_neighbours
from recbole_drex.explain.counterfactual.review_counterfactual import ReviewCounterfactual
from recbole_drex.explain.explanation import NeighbourExplanation
from recbole_drex.explain.prediction_parts import Sum
from recbole_drex.explain.topic_parts import topic_parts
from recbole_drex.model.contract import contract_of
from recbole_drex.model.drex.drex import DReX
from recbole_drex.model.factorization.emf import EMF
from recbole_drex.model.review_based.attentive import AttentiveModel
from recbole_drex.model.review_based.hft import HFT


@singledispatch
def counterfactual_class(model: Any) -> type[Counterfactual] | None:
    """The class of a model's counterfactual predictions; None if none is registered for the model's class."""
    return None


@counterfactual_class.register
def _(model: DReX) -> type[Counterfactual]:
    return DReXCounterfactual


@counterfactual_class.register
def _(model: EMF) -> type[Counterfactual]:
    return EMFCounterfactual


@counterfactual_class.register
def _(model: AttentiveModel) -> type[Counterfactual]:
    return ReviewCounterfactual


def counterfactual_for(model: Any, user: int, item: int) -> Counterfactual:
    """The prediction of a model for a user and an item, with counterfactual predictions.

    Args:
        model: trained.
        user, item: internal ids.

    Raises:
        DataError: no class is registered for this model.
    """
    kind = counterfactual_class(model)
    if kind is None:
        raise DataError(f"no counterfactual predictions are defined for {type(model).__name__}")
    return kind.of(model, user, item)


@singledispatch
def neighbours_of(model: Any, user: int, item: int) -> NeighbourExplanation | None:
    """Ratings of an item by a user's neighbours; None for models without neighbours."""
    return None


neighbours_of.register(EMF, explain_by_neighbours)


@singledispatch
def sum_of(model: Any, user: int, item: int) -> Sum | None:
    """A prediction as a sum of parts; None for models whose counterfactual predictions give the parts, or without."""
    return None


sum_of.register(HFT, topic_parts)


def explains(model: Any) -> bool:
    """Whether a model offers explanations of any kind: counterfactual predictions, parts or generated sentences."""
    has_sum = sum_of.dispatch(type(model)) is not sum_of.dispatch(object)
    return counterfactual_class(model) is not None or has_sum or contract_of(model).writes
