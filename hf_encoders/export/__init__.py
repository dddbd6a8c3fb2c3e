"""A model's towers compiled for the CPU: ONNX, OpenVINO, 8 bits."""

from .towers import export

__all__ = ["export"]
