"""Other engines that run the same model: export to ONNX and OpenVINO, and predictors that run what was exported."""
