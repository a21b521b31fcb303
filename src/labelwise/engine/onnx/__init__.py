"""The CPU backend: a graph of our own on ONNX Runtime."""
