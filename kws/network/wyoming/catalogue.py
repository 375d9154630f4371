"""The wake words on offer: to a client, each word of each model is a model of its own."""

from collections.abc import Iterable
from typing import NamedTuple

from wyoming.event import Event
from wyoming.info import Attribution, Info, WakeModel, WakeProgram

import kws
from kws.gate import GateSettings
from kws.manifest import installed_models
from kws.model import Model, load_model
from kws.network.wyoming.settings import WyomingSettings
from kws.operating import Rates
from kws.pipeline import Pipeline

PROGRAM = "kws"
FIRST_MODEL = "default"


class Offer(NamedTuple):
    """One wake word."""

    name: str
    """What clients call it: the phrase with _ for spaces, after the model's name and a dot if another model
    has the same."""
    phrase: str
    model: Model


class Catalogue:
    """Loads the models, one session each for all clients, and finds them by what clients ask for.

    Raises:
        ModelError: a model is missing or damaged.
    """

    def __init__(self, settings: WyomingSettings) -> None:
        self.models = [load_model(name) for name in settings.models or _installed()]
        self._rate = settings.false_accepts_per_day
        self.offers: dict[str, Offer] = {}
        for model in self.models:
            for phrase in model.manifest.words:
                name = phrase.replace(" ", "_")
                if name in self.offers:
                    name = f"{model.manifest.name}.{name}"
                self.offers.setdefault(name, Offer(name, phrase, model))
        self.info = _info(self.offers.values())
        """The answer to `describe`."""

    @property
    def default(self) -> list[Offer]:
        """What a client hears that asks for nothing, or for nothing that is known."""
        return [offer for offer in self.offers.values() if offer.model is self.models[0]]

    def find(self, names: Iterable[str]) -> tuple[list[Offer], list[str]]:
        """The words that a client asks for, by name or phrase, and the names that mean none."""
        keys = [(name, name.strip().lower().replace(" ", "_")) for name in names]
        found = dict.fromkeys(self.offers[key] for _, key in keys if key in self.offers)
        return list(found), [name for name, key in keys if key not in self.offers]

    def pipeline(self, model: Model, gate: GateSettings | None) -> Pipeline:
        """A new stream of one of `models`."""
        return Pipeline(model, self._rates(model), gate)

    def _rates(self, model: Model) -> Rates | None:
        """The wanted rate for each word whose curve is measured; the others keep their thresholds."""
        if self._rate is None:
            return None
        curves = model.manifest.operating_curve
        return {word: self._rate for word in model.manifest.words if curves.get(word)}


def _installed() -> list[str]:
    names = [folder.name for folder in installed_models()]
    return sorted(names, key=lambda name: (name != FIRST_MODEL, name))


def _info(offers: Iterable[Offer]) -> Event:
    source = Attribution(name=PROGRAM, url="")
    models = [
        WakeModel(
            name=offer.name,
            description=offer.phrase,
            phrase=offer.phrase,
            attribution=source,
            installed=True,
            languages=[],
            version=offer.model.manifest.model.sha256[:12],
        )
        for offer in offers
    ]
    program = WakeProgram(
        name=PROGRAM,
        description="Wake words on small computers",
        attribution=source,
        installed=True,
        version=kws.__version__,
        models=models,
    )
    return Info(wake=[program]).event()
