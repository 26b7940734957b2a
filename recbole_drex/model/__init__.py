"""The models of this project, by the name of their configuration in ``properties/model/``.

A preset is a second configuration of the same class, e.g. ``DReX-paper``. RecBole's built-in models are found too.
"""

from __future__ import annotations

import importlib
import pkgutil

from recbole_drex.compat import without_pickle

from recbole_drex.errors import ConfigError, unknown_name

MODELS = {
    "DReX": "DReX",
    "DReX-paper": "DReX",
    "DReX-MLP": "DReX",
    "DReX-MLP-paper": "DReX",
    "DReX-implicit": "DReX",
    "GlobalMean": "GlobalMean",
    "ItemMean": "ItemMean",
    "Bias": "Bias",
    "BiasedMF": "BiasedMF",
    "DeepCoNN": "DeepCoNN",
    "NARRE": "NARRE",
    "EMF": "EMF",
    "DMF-paper": "DMFPaper",
    "PESI": "PESI",
    "VBPR": "VBPR",
    "LIRDRec": "LIRDRec",
}
"""Configuration name -> class; a class lives in the module of its lower-case name."""


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
        ConfigError: no such model; names the nearest one and all legal ones.
    """
    for known in MODELS:
        if known.lower() == name.lower():
            return known
    built_in = recbole_models()
    for known in built_in:
        if known.lower() == name.lower():
            return known
    raise ConfigError(unknown_name("model", name, [*MODELS, *built_in]))


def get_model(name: str) -> type:
    """Class of the model ``name``: ours first, then RecBole's general recommenders."""
    name = canonical_model_name(name)
    if name in MODELS:
        module = importlib.import_module(f"recbole_drex.model.{MODELS[name].lower()}")
        return getattr(module, MODELS[name])
    module = importlib.import_module(f"recbole.model.general_recommender.{name.lower()}")
    return getattr(without_pickle(module), name)
