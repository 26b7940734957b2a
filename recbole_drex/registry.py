"""Models by name: those of this project, those that a user registers, and RecBole's."""

from __future__ import annotations

import importlib
import pkgutil
import re
import textwrap
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TypeVar

from recbole_drex.compat import without_pickle

from recbole_drex.errors import ConfigError, unknown_name
from recbole_drex.utils.files import properties_dir, safe_name

Model = TypeVar("Model", bound=type)

PRESETS = {
    "DReX-paper": "DReX",
    "DReX-MLP": "DReX",
    "DReX-MLP-paper": "DReX",
    "DReX-implicit": "DReX",
    "DMF-paper": "DMFPaper",
}
"""Configurations in ``properties/model/`` that are not named after their class."""

_registered: dict[str, type] = {}
_MODELS = Path(__file__).parent / "model"


def register_model(model: Model) -> Model:
    """Make a model usable by the name of its class in ``run``, ``compare``, ``tune`` and ``load``; a decorator.

    Its parameters, with their defaults, are those of ``PARAMETERS``, a tuple of
    :class:`recbole_drex.config.parameters.Parameter`.

    Args:
        model: a subclass of :class:`recbole_drex.model.abstract_recommender.RatingModel` if it predicts ratings; of
            :class:`recbole_drex.model.contract.ModelContract` and RecBole's ``GeneralRecommender``, with the parameter
            ``train_target: implicit``, if it ranks; or of one of RecBole's models.

    Raises:
        ConfigError: the class is not a ``GeneralRecommender``, or a model of this project or of RecBole has this name.

    Example:
        >>> from recbole_drex.config.parameters import with_defaults
        >>> from recbole_drex.model.factorization.biasedmf import BiasedMF
        >>> @register_model
        ... class SmallMF(BiasedMF):
        ...     '''Biased matrix factorisation with short vectors.'''
        ...     PARAMETERS = with_defaults(BiasedMF.PARAMETERS, embedding_size=4)
        >>> get_model("smallmf") is SmallMF
        True
    """
    from recbole.model.abstract_recommender import GeneralRecommender

    name = safe_name(model.__name__, "model")  # files are named after it
    if not issubclass(model, GeneralRecommender):
        raise ConfigError(f"class {name} is not a model: derive it from RecBole's GeneralRecommender or a subclass")
    taken = {known.lower() for known in (*_project_models(), *recbole_models())}
    if name.lower() in taken:
        raise ConfigError(f"model {name} exists already; give the class another name")
    _registered[name] = model
    return model


def model_names(models: str | type | Sequence[str | type]) -> list[str]:
    """Names of one or several models, given by name or as a class; new classes are registered.

    Example:
        >>> model_names("DReX"), model_names(["DReX", "BPR"])
        (['DReX'], ['DReX', 'BPR'])
    """
    given = [models] if isinstance(models, (str, type)) else models
    for model in given:
        if isinstance(model, str) or model in _registered.values():
            continue
        if model.__name__ not in _project_models() or get_model(model.__name__) is not model:
            register_model(model)
    return [model if isinstance(model, str) else model.__name__ for model in given]


def registered_models() -> list[type]:
    """The classes that this process has registered; other processes have to register them, too."""
    return list(_registered.values())


def own_models() -> list[str]:
    """Names of the models and presets of this project, and of those that were registered."""
    return [*_project_models(), *_registered]


def recbole_models() -> list[str]:
    """Names of RecBole's built-in general models, e.g. ``BPR``, ``LightGCN``."""
    import recbole.model.general_recommender as package

    names = []
    for module in pkgutil.iter_modules(package.__path__):
        content = importlib.import_module(f"{package.__name__}.{module.name}")
        names += [
            name for name in vars(content) if name.lower() == module.name and isinstance(vars(content)[name], type)
        ]
    return names


def canonical_model_name(name: str) -> str:
    """Resolve the spelling of a model's name, ignoring case.

    Raises:
        ConfigError: no such model; names the most similar one and all legal ones.
    """
    for known in own_models():
        if known.lower() == name.lower():
            return known
    built_in = recbole_models()
    for known in built_in:
        if known.lower() == name.lower():
            return known
    hint = "For a model of your own, import the module that registers it (recbole_drex.register_model)"
    raise ConfigError(unknown_name("model", name, [*own_models(), *built_in], hint))


def get_model(name: str) -> type:
    """Class of the model ``name``: ours first, then RecBole's general recommenders."""
    name = canonical_model_name(name)
    if name in _registered:
        return _registered[name]
    if name in _project_models():
        class_name = PRESETS.get(name, name)
        module = importlib.import_module(f"recbole_drex.model.{_folder(class_name)}.{class_name.lower()}")
        return getattr(module, class_name)
    module = importlib.import_module(f"recbole.model.general_recommender.{name.lower()}")
    return getattr(without_pickle(module), name)


def summary_of(name: str) -> str:
    """One-line description of a model: the first clause of its class's docstring, or of a preset's YAML file.

    Example:
        >>> summary_of("DReX-implicit"), summary_of("GlobalMean")
        ('DReX for ranking the full catalogue', 'Predicts the mean of the training ratings')
    """
    name = canonical_model_name(name)
    if name in PRESETS:
        text = (properties_dir() / "model" / f"{name}.yaml").read_text(encoding="utf-8").partition("\n")[0]
    else:
        text = (vars(get_model(name)).get("__doc__") or "").strip().partition("\n\n")[0]
    text = " ".join(text.replace("`", "").split()).removeprefix("# ").removeprefix(f"{name}: ")
    return textwrap.shorten(re.split(r"(?<!al)\. |; |: ", text)[0].rstrip("."), 110, placeholder=" ...")


@cache
def _project_models() -> list[str]:
    """A model's parameters are in ``properties/model/NAME.yaml`` and its class in ``model/FOLDER/name.py``."""
    names = sorted(file.stem for file in (properties_dir() / "model").glob("*.yaml"))
    return [name for name in names if _folder(PRESETS.get(name, name))]


def _folder(class_name: str) -> str | None:
    """The folder of a class in ``model/``."""
    return next((file.parent.name for file in _MODELS.glob(f"*/{class_name.lower()}.py")), None)
