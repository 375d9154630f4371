"""What travels from the detector to whoever listens."""

from dataclasses import dataclass


@dataclass(frozen=True)
class _Peak:
    """A keyword's score at one moment of a stream."""

    keyword: str
    """The phrase as people write it, e.g. "computer"."""
    sample: int
    """Samples of the stream that had been consumed when the score was reached."""
    score: float
    """Smoothed score at that moment, 0..1."""
    sample_rate_hz: int = 16_000
    """Samples per second of the stream."""

    @property
    def time_s(self) -> float:
        """Seconds since the start of the stream."""
        return self.sample / self.sample_rate_hz

    def fields(self) -> dict[str, str | float]:
        """What JSON shows of it."""
        return {"keyword": self.keyword, "time_s": round(self.time_s, 4), "score": round(self.score, 6)}


class Detection(_Peak):
    """A wake word was heard: its score reached the threshold."""


class NearMiss(_Peak):
    """The highest score of one that came close to a threshold, and nothing was detected."""
