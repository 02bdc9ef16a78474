"""QBRM: reward models, refined after training."""

__version__ = "0.1.0"
