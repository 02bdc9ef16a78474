"""What a reward model gives for a preference set: embeddings and rewards, computed once and kept on disk."""

from qbrm.features.build import build_features, write_features
from qbrm.features.shard import Shard
from qbrm.features.table import FeatureTable
from qbrm.preferences.base import Key

__all__ = ["FeatureTable", "Key", "Shard", "build_features", "write_features"]
