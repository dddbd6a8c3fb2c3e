"""Compiled programs of towers: compile, keep and run them by ONNX Runtime and OpenVINO."""
