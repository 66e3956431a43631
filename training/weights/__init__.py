"""Weights files and their cards: checked when read, whole when written."""

from training.architecture import Parameters
from training.weights.card import (
    MAX_CARD_SIZE,
    ModelCard,
    card_path,
    load_card,
    package_versions,
)
from training.weights.npz import (
    MAX_FILE_SIZE,
    SHIPPED_WEIGHTS,
    Weights,
    load_weights,
    record_proof,
    save_weights,
)

__all__ = [
    "MAX_CARD_SIZE",
    "MAX_FILE_SIZE",
    "SHIPPED_WEIGHTS",
    "ModelCard",
    "Parameters",
    "Weights",
    "card_path",
    "load_card",
    "load_weights",
    "package_versions",
    "record_proof",
    "save_weights",
]
