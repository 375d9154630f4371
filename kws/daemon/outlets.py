"""What the daemon tells others, and its lamps: none unless the settings ask for it; none is waited for."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kws.daemon.led import Led
from kws.daemon.settings import Settings
from kws.network.mqtt import Mqtt, MqttSettings
from kws.network.webhook import Webhook, WebhookSettings
from kws.network.wyoming.thread import Wyoming


class Outlets:
    """The Wyoming server, the bridge to MQTT, the webhooks and the lamps, each on a thread of its own.

    Args:
        folder: Of the daemon's sockets, which the bridge uses as any other client.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._wyoming = Wyoming()
        self._led = Led(folder)
        self._mqtt: Mqtt | None = None
        self._mqtt_settings: MqttSettings | None = None
        self._webhooks: list[Webhook] = []
        self._webhook_settings: tuple[WebhookSettings, ...] = ()

    def configure(self, settings: Settings) -> None:
        """Begin, change or end what the settings say; what stays the same goes on."""
        self._wyoming.configure(settings.wyoming, settings.gate)
        self._led.configure(settings.led)
        if settings.mqtt != self._mqtt_settings:
            self._close_mqtt()
            self._mqtt_settings = settings.mqtt
            if settings.mqtt is not None:
                self._mqtt = Mqtt(settings.mqtt, self._folder)
                self._mqtt.start()
        if settings.webhooks != self._webhook_settings:
            self._close_webhooks()
            self._webhook_settings = settings.webhooks
            self._webhooks = [Webhook(each) for each in settings.webhooks]

    def put(self, event: Mapping[str, Any]) -> None:
        """Hand an event to the lamps and the webhooks; the bridge gets it at its socket."""
        self._led.put(event)
        for webhook in self._webhooks:
            webhook.put(event)

    def close(self) -> None:
        """Take leave, within seconds."""
        self._led.close()
        self._wyoming.close()
        self._close_mqtt()
        self._close_webhooks()

    def _close_mqtt(self) -> None:
        if self._mqtt is not None:
            self._mqtt.close()
        self._mqtt = None

    def _close_webhooks(self) -> None:
        for webhook in self._webhooks:
            webhook.close()
        self._webhooks = []
