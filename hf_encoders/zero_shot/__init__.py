"""Classification by words, and the inputs that are none of them; what travels with a repo is in `models`."""

from ..models.zero_shot_calibration import (
    CALIBRATED,
    Calibration,
    ModalityCalibration,
    Threshold,
    calibration_of,
)
from ..models.zero_shot_classifier import Score, ZeroShotClassifier, check_threshold
from ..models.zero_shot_scores import KNOWN_SCORES, KnownScore, label_scores
from .calibration import check_calibrated, write_calibration

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
