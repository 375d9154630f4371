"""Training, quantisation and export: everything that needs the `train` extra. Never imported by listening."""

from importlib.util import find_spec

from kws.errors import MissingExtra

for _package in ("torch", "onnx", "safetensors", "rich", "pyroomacoustics"):
    if find_spec(_package) is None:
        raise MissingExtra(_package, "train")
