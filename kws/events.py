"""What travels from the detector to whoever listens."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Detection:
    """A wake word was heard."""

    keyword: str
    """The phrase as people write it, e.g. "computer"."""
    sample: int
    """Samples of the stream that had been consumed when the score reached the threshold."""
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


@dataclass(frozen=True)
class NearMiss:
    """A score came close to a threshold, and nothing was detected."""

    keyword: str
    """The phrase as people write it."""
    sample: int
    """Samples of the stream that had been consumed at the highest score."""
    score: float
    """The highest score, 0..1."""
    sample_rate_hz: int = 16_000
    """Samples per second of the stream."""

    @property
    def time_s(self) -> float:
        """Seconds since the start of the stream."""
        return self.sample / self.sample_rate_hz

    def fields(self) -> dict[str, str | float]:
        """What JSON shows of it."""
        return {"keyword": self.keyword, "time_s": round(self.time_s, 4), "score": round(self.score, 6)}
