"""A network in ONNX Runtime or OpenVINO instead of torch: converted once, kept on disk, run."""
