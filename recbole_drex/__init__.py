"""recbole_drex: review-based, explainable recommendation as an extension of RecBole."""

__version__ = "0.1.0"
