"""RecBole's names, imported once :mod:`recbole_drex.compat` has made RecBole run on current libraries.

Every other module takes them from here.
"""

from pathlib import Path

import recbole_drex.compat  # noqa: F401  (first: RecBole needs it)
import recbole
import recbole.trainer.trainer as recbole_trainer
from recbole.config import Config as RecBoleConfig
from recbole.data.dataloader import FullSortEvalDataLoader, NegSampleEvalDataLoader
from recbole.data.dataset import Dataset
from recbole.data.interaction import Interaction, cat_interactions
from recbole.data.utils import create_samplers, get_dataloader
from recbole.evaluator import Collector, Evaluator, metric_types, register, smaller_metrics
from recbole.evaluator.base_metric import AbstractMetric
from recbole.evaluator.collector import DataStruct
from recbole.evaluator.register import Register
from recbole.model.abstract_recommender import GeneralRecommender
from recbole.sampler import Sampler
from recbole.utils import EvaluatorType, FeatureSource, FeatureType, InputType, ModelType, get_trainer, init_seed
from recbole.utils.argument_list import dataset_arguments, evaluation_arguments, general_arguments, training_arguments
from recbole.utils.logger import RemoveColorFilter

RECBOLE_FOLDER = Path(recbole.__file__).parent
"""The folder where RecBole is installed, with its ``properties/``."""

__all__ = [
    "RECBOLE_FOLDER",
    "AbstractMetric",
    "Collector",
    "DataStruct",
    "Dataset",
    "Evaluator",
    "EvaluatorType",
    "FeatureSource",
    "FeatureType",
    "FullSortEvalDataLoader",
    "GeneralRecommender",
    "InputType",
    "Interaction",
    "ModelType",
    "NegSampleEvalDataLoader",
    "RecBoleConfig",
    "Register",
    "RemoveColorFilter",
    "Sampler",
    "cat_interactions",
    "create_samplers",
    "dataset_arguments",
    "evaluation_arguments",
    "general_arguments",
    "get_dataloader",
    "get_trainer",
    "init_seed",
    "metric_types",
    "recbole_trainer",
    "register",
    "smaller_metrics",
    "training_arguments",
]
