"""YAML into dataclasses: types, defaults and the wording of mistakes."""

from dataclasses import dataclass, field
from typing import Any, Literal

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from kws.config import dump, load, parse
from kws.errors import ConfigError


@dataclass(frozen=True)
class Noise:
    snr_db: tuple[float, float] = (-5.0, 20.0)
    probability: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.probability <= 1:
            raise ConfigError("probability must lie in 0..1; change it")


@dataclass(frozen=True)
class Recipe:
    name: str
    steps: int = 10
    rate: float = 0.1
    resume: bool = False
    words: tuple[str, ...] = ()
    noise: Noise = field(default_factory=Noise)
    loss: Literal["frame", "maxpool"] = "frame"
    limit: int | None = None
    weights: dict[str, float] = field(default_factory=dict)
    noises: tuple[Noise, ...] = ()
    notes: Any = None


def test_defaults_fill_what_is_left_out():
    assert parse({"name": "a"}, Recipe) == Recipe("a")
    assert parse({"name": "a", "noise": None}, Recipe) == Recipe("a")


def test_values_take_the_types_of_their_fields():
    recipe = parse(
        {"name": "a", "rate": "1e-3", "words": ["x"], "noise": {"snr_db": [0, 5]}, "weights": {"x": 2}},
        Recipe,
    )
    assert recipe == Recipe("a", rate=0.001, words=("x",), noise=Noise((0.0, 5.0)), weights={"x": 2.0})
    assert isinstance(recipe.weights["x"], float)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"name": "a", "stepps": 1}, "unknown key stepps; did you mean 'steps'?"),
        ({"name": "a", "noise": {"snr": 1}}, "unknown key noise.snr; did you mean 'snr_db'?"),
        ({"name": "a", "noise": {"xyz": 1}}, "unknown key noise.xyz; legal keys: snr_db, probability"),
        ({"name": "a", "noises": [{}, {"xyz": 1}]}, "unknown key noises[1].xyz; legal keys:"),
        ({"steps": 1}, "name is missing; add it"),
        ({"name": 1}, "name must be text, not 1"),
        ({"name": "a", "steps": 1.5}, "steps must be a whole number, not 1.5"),
        ({"name": "a", "steps": True}, "steps must be a whole number, not True"),
        ({"name": "a", "rate": "fast"}, "rate must be a number, not 'fast'"),
        ({"name": "a", "resume": 1}, "resume must be true or false, not 1"),
        ({"name": "a", "words": "x"}, "words must be a list, not 'x'"),
        ({"name": "a", "noise": {"snr_db": [1]}}, "noise.snr_db must be a list of 2, not [1]"),
        ({"name": "a", "noise": 3}, "noise must be a mapping, not 3"),
        ({"name": "a", "weights": []}, "weights must be a mapping, not []"),
        ({"name": "a", "weights": {"x": "y"}}, "weights.x must be a number, not 'y'"),
        ({"name": "a", "loss": "other"}, "loss must be one of frame, maxpool, not 'other'"),
        ({"name": "a", "limit": "x"}, "limit must be a whole number, not 'x'"),
        ({"name": "a", "noise": {"probability": 2}}, "noise.probability must lie in 0..1; change it"),
        ([1], "the file must be a mapping, not [1]"),
    ],
)
def test_mistake_is_named_by_its_dotted_path(data, message):
    with pytest.raises(ConfigError) as caught:
        parse(data, Recipe, where="recipe.yaml")
    assert str(caught.value).startswith(f"recipe.yaml: {message}")


# PyYAML itself mistakes the control character U+0085 for a line break, so: no control characters.
words = st.text(st.characters(exclude_categories=("C",)))


@given(
    st.builds(
        Recipe,
        name=words,
        rate=st.floats(allow_nan=False),
        words=st.lists(words).map(tuple),
        noise=st.builds(Noise, probability=st.floats(0, 1)),
        limit=st.none() | st.integers(),
        weights=st.dictionaries(words, st.floats(allow_nan=False)),
        noises=st.lists(st.builds(Noise)).map(tuple),
        notes=st.none() | st.booleans(),
    )
)
def test_dump_and_parse_undo_each_other(recipe):
    text = yaml.safe_dump(dump(recipe), sort_keys=False, allow_unicode=True)
    assert parse(yaml.safe_load(text), Recipe) == recipe


def test_file_that_is_missing_or_not_yaml_is_named(tmp_path):
    path = tmp_path / "recipe.yaml"
    with pytest.raises(ConfigError, match=r"cannot read .*recipe.yaml: No such file.*; check the path"):
        load(path, Recipe)
    path.write_text("a: [1")
    with pytest.raises(ConfigError, match=r"recipe.yaml is not valid YAML .*; fix the file"):
        load(path, Recipe)
    path.write_bytes(b"name: \xff")
    with pytest.raises(ConfigError, match="is not valid YAML"):
        load(path, Recipe)
    path.write_text("name: tree\nsteps: 3")
    assert load(path, Recipe) == Recipe("tree", steps=3)


def test_changes_replace_single_settings(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text("name: tree\nsteps: 3\nnoise: {probability: 0.1}\nweights:\n")
    changes = ("steps=7", "words=[a, b]", "noise.snr_db=[0, 1]", "weights.x=2", "loss=maxpool")
    assert load(path, Recipe, changes) == Recipe(
        "tree", steps=7, words=("a", "b"), noise=Noise((0.0, 1.0), 0.1), weights={"x": 2.0}, loss="maxpool"
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("steps", "write KEY=VALUE"),
        ("noise.snr=[0, 1]", r"unknown key noise\.snr; did you mean 'snr_db'"),
        ("words=[", "not valid YAML"),
        ("loss=l2", "loss must be one of frame, maxpool, not 'l2'"),
    ],
)
def test_wrong_change_is_named(tmp_path, change, message):
    path = tmp_path / "recipe.yaml"
    path.write_text("name: tree\n")
    with pytest.raises(ConfigError, match=message):
        load(path, Recipe, [change])


@dataclass(frozen=True)
class Choice:
    device: int | str | None = None
    rates: float | dict[str, float] | None = None
    pick: int | Literal["mix"] | tuple[float, ...] = 0


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"device": 3}, Choice(device=3)),
        ({"device": "USB"}, Choice(device="USB")),
        ({"device": None}, Choice()),
        ({"rates": 1}, Choice(rates=1.0)),
        ({"rates": {"alexa": 2}}, Choice(rates={"alexa": 2.0})),
        ({"pick": "mix"}, Choice(pick="mix")),
        ({"pick": [0.5, 0.5]}, Choice(pick=(0.5, 0.5))),
    ],
)
def test_union_takes_the_kind_that_fits(data, expected):
    assert parse(data, Choice) == expected


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"device": 1.5}, "device must be a whole number or text, not 1.5"),
        ({"rates": {"alexa": "often"}}, "rates.alexa must be a number, not 'often'"),
        ({"pick": "left"}, "pick must be a whole number or one of mix, not 'left'"),
        ({"pick": ["a"]}, r"pick\[0\] must be a number"),
    ],
)
def test_union_names_what_it_takes(data, message):
    with pytest.raises(ConfigError, match=message):
        parse(data, Choice)
