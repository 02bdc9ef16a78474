"""Fitting scores to preference pairs: objectives, training, committees, calibration. No score is named here."""

from qbrm.data.pairs import Batch, PairData, Pairs
from qbrm.fitting.committee import Fold
from qbrm.fitting.fit import FittedScore, fit_score
from qbrm.fitting.settings import FitSettings, TrainingSettings
from qbrm.fitting.trainable import TrainableScore
from qbrm.fitting.trainer import Epoch, Training, train

__all__ = [
    "Batch",
    "Epoch",
    "FitSettings",
    "FittedScore",
    "Fold",
    "PairData",
    "Pairs",
    "TrainableScore",
    "Training",
    "TrainingSettings",
    "fit_score",
    "train",
]
