"""Progress bars, on standard error: standard output is for results."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.progress import track as rich_track

T = TypeVar("T")


def track(items: Iterable[T], what: str, *, total: float | None = None, disable: bool = False) -> Iterator[T]:
    """Yield `items` while a bar shows how many there were."""
    yield from rich_track(items, what, total=total, console=Console(stderr=True), disable=disable)


@contextmanager
def step_bar(phase: str, total: int, done: int, *, disable: bool = False) -> Iterator[Callable[[str], None]]:
    """A bar of steps: call the result after each, with what to say about it, or "" for what was said last."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=disable) as bar:
        task = bar.add_task(phase, total=total, completed=done)

        def advance(said: str) -> None:
            bar.update(task, advance=1, description=f"{phase}  {said}" if said else None)

        yield advance
