"""What a user can choose: the schema of kws.yaml, stage by stage. The stages own their parts."""

from dataclasses import dataclass, field
from pathlib import Path

from kws import config
from kws.daemon.captures import CaptureSettings
from kws.daemon.hooks import HookSettings
from kws.daemon.led import LedSettings
from kws.errors import ConfigError
from kws.gate import GateSettings
from kws.microphone import MicrophoneSettings
from kws.network.mqtt import MqttSettings
from kws.network.webhook import WebhookSettings
from kws.network.wyoming.settings import WyomingSettings
from kws.power import PowerSettings

SYSTEM_FILE = Path("/etc/kws/kws.yaml")
USER_FILE = Path(".config/kws/kws.yaml")
"""Below the home folder."""


@dataclass(frozen=True)
class Settings:
    """Everything in kws.yaml."""

    model: str = "default"
    """Name of an installed model, or path of a model folder."""
    false_accepts_per_day: float | dict[str, float] | None = None
    """How often a word may be heard wrongly, of all or of single words; None: the model's own thresholds."""
    microphone: MicrophoneSettings = field(default_factory=MicrophoneSettings)
    gate: GateSettings = field(default_factory=GateSettings)
    hooks: tuple[HookSettings, ...] = ()
    webhooks: tuple[WebhookSettings, ...] = ()
    led: LedSettings | None = None
    """None: no lamps."""
    mqtt: MqttSettings | None = None
    """None: no MQTT."""
    capture: CaptureSettings = field(default_factory=CaptureSettings)
    power: PowerSettings = field(default_factory=PowerSettings)
    wyoming: WyomingSettings | None = None
    """Hear for other machines too; None: no network."""
    prometheus_file: str | None = None
    """Where a Prometheus text file is kept, for node exporter's textfile collector; written once a minute."""

    def __post_init__(self) -> None:
        """Refuse rates that mean nothing."""
        rates = self.false_accepts_per_day
        for rate in rates.values() if isinstance(rates, dict) else [rates]:
            if rate is not None and not 0 < rate < float("inf"):
                raise ConfigError(f"false_accepts_per_day must be above 0, not {rate:g}; correct it")
        if self.prometheus_file is not None and not Path(self.prometheus_file).is_absolute():
            raise ConfigError("prometheus_file depends on a folder; write its path from / on")


def find_config(given: Path | None) -> tuple[Path | None, str]:
    """The file that is in force, None for the defaults alone, and why that one."""
    if given is not None:
        return given, "it was asked for"
    user = Path.home() / USER_FILE
    if user.is_file():
        return user, "it is the user's own"
    if SYSTEM_FILE.is_file():
        return SYSTEM_FILE, "it is the machine's"
    return None, f"neither {user} nor {SYSTEM_FILE} is there"


def says(path: Path | None) -> str:
    """Who has chosen what is in the settings."""
    return "as no file says otherwise" if path is None else f"as {path} says"


def load_settings(path: Path | None) -> Settings:
    """Settings from a file; the defaults without one.

    Raises:
        ConfigError: the file cannot be read, or a key of it is unknown or wrong.
    """
    return Settings() if path is None else config.load(path, Settings)
