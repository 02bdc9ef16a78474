"""Refined reward models: what users hold, how they are fitted, saved, described and shared."""

from qbrm.model.distribution import RewardCurves, RewardDistribution
from qbrm.model.energy_reward_model import EnergyRewardModel

__all__ = ["EnergyRewardModel", "RewardCurves", "RewardDistribution"]
