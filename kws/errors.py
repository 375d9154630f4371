"""Every error that `kws` raises on purpose, and the exit code that each becomes on the command line.

::

    KwsError                 1   anything below; also raised for unexpected states
     ├── ConfigError         2   a YAML file, manifest key or command line value is wrong   (ValueError)
     ├── ModelError          3   a model folder is missing, damaged or of another version   (ValueError)
     ├── AudioError          4   a device or an audio file cannot be read                   (OSError)
     ├── DataError           5   a corpus is unusable: leaks, empty classes, missing files  (ValueError)
     ├── MissingExtra        6   an optional package is not installed                       (ImportError)
     └── CheckFailed         7   an exported model is not what it must be                   (AssertionError)

Exit code 2 is also argparse's; 130 means interrupted (Ctrl-C). Each message is one sentence that ends with
the next step, so that the command line can print it as it is.
"""

INTERRUPTED = 130
"""Exit code after Ctrl-C."""


class KwsError(Exception):
    """Root of the tree: catch this to catch everything that `kws` reports deliberately."""

    exit_code = 1


class ConfigError(KwsError, ValueError):
    """A setting is unknown, has the wrong type, or is out of range."""

    exit_code = 2


class ModelError(KwsError, ValueError):
    """A model folder is missing, damaged, or was made for another version."""

    exit_code = 3


class AudioError(KwsError, OSError):
    """A microphone or an audio file cannot be opened or read."""

    exit_code = 4


class DataError(KwsError, ValueError):
    """A training or evaluation corpus cannot be used."""

    exit_code = 5


class MissingExtra(KwsError, ImportError):
    """A package of an optional extra is not installed."""

    exit_code = 6

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"{package} is not installed; run: pip install 'kws[{extra}]'")
        self.package, self.extra = package, extra


class CheckFailed(KwsError, AssertionError):
    """An exported model failed one of the exporter's own checks and was not written."""

    exit_code = 7
