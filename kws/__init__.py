"""Streaming wake-word detection for small computers.

::

    import kws

    model = kws.load_model("default")
    stream, detector = model.stream(), kws.Detector.for_model(model)
    for samples in blocks:  # int16 or float32, 16 kHz mono, any length
        for detection in detector.feed(stream.feed(samples)):
            print(detection.keyword, detection.time_s, detection.score)

The names are imported on first use, so that `kws --help` does not wait for numpy.
"""

from importlib import import_module

TYPE_CHECKING = False  # as type checkers know it; `typing` would slow `kws status`
if TYPE_CHECKING:
    from kws.classifier import Classifier, Decision
    from kws.detector import Detector
    from kws.errors import KwsError
    from kws.events import Detection
    from kws.model import Model, Stream, load_model

    __version__: str

__all__ = [
    "Classifier",
    "Decision",
    "Detection",
    "Detector",
    "KwsError",
    "Model",
    "Stream",
    "__version__",
    "load_model",
]

_HOMES = {
    "Classifier": "kws.classifier",
    "Decision": "kws.classifier",
    "Detection": "kws.events",
    "Detector": "kws.detector",
    "KwsError": "kws.errors",
    "Model": "kws.model",
    "Stream": "kws.model",
    "load_model": "kws.model",
}


def __getattr__(name: str) -> object:
    if name == "__version__":
        metadata = import_module("importlib.metadata")
        try:
            return metadata.version("kws")
        except metadata.PackageNotFoundError:  # run from a checkout that was never installed
            return "0+unknown"
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'kws' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
