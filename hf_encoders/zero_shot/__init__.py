"""Classification by words, and the inputs that are none of them."""

from .calibration import (
    CALIBRATED,
    Calibration,
    ModalityCalibration,
    Threshold,
    calibration_of,
    check_calibrated,
    write_calibration,
)
from .classifier import Score, ZeroShotClassifier, check_threshold
from .known_scores import KNOWN_SCORES, KnownScore, label_scores

__all__ = [
    "CALIBRATED",
    "KNOWN_SCORES",
    "Calibration",
    "KnownScore",
    "ModalityCalibration",
    "Score",
    "Threshold",
    "ZeroShotClassifier",
    "calibration_of",
    "check_calibrated",
    "check_threshold",
    "label_scores",
    "write_calibration",
]
