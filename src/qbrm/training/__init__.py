"""Training of scores on preference pairs, with checkpoints and metrics."""

from qbrm.features.pairs import Batch, PairData
from qbrm.training.settings import TrainingSettings
from qbrm.training.trainer import Training, train

__all__ = ["Batch", "PairData", "Training", "TrainingSettings", "train"]
