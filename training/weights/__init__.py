"""Weights files and their cards: checked when read, whole when written."""

from training.weights.npz import (
    MAX_CARD_SIZE,
    MAX_FILE_SIZE,
    SHIPPED_WEIGHTS,
    ModelCard,
    Parameters,
    Weights,
    card_path,
    load_card,
    load_weights,
    package_versions,
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
