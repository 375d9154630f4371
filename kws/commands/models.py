"""`kws models`: list the installed models and what was measured on them."""

import argparse
from pathlib import Path

from kws.errors import KwsError, ModelError
from kws.evaluate.card import SHIPPED
from kws.manifest import Manifest, installed_models, read_manifest
from kws.operating import settings_at

RATES_PER_DAY = (1.0, 5.0, 12.0, 24.0)
"""False accepts per day at which a curve is shown."""


def run(_options: argparse.Namespace) -> int:
    """Print each installed model; a damaged one is named, and makes the exit code that of ModelError."""
    folders = installed_models()
    if not folders:
        raise ModelError("no model is installed; train one with: kws train CONFIG")
    code = 0
    for folder in folders:
        try:
            print(_describe(folder, read_manifest(folder)))
        except KwsError as error:
            print(f"{folder.name}  damaged: {error}")
            code = ModelError.exit_code
    return code


def _describe(folder: Path, manifest: Manifest) -> str:
    """A headline, then of each keyword its threshold and its curve in words."""
    kilobytes, parameters = manifest.model.bytes / 1000, manifest.model.parameters
    lines = [f"{folder.name}  {kilobytes:.0f} kB, {parameters} parameters, {manifest.licence}  {folder}"]
    if manifest.is_classifier:
        lines.append(f"  {', '.join(manifest.words)}: {_accuracy(manifest)}")
        return "\n".join(lines)
    for keyword in manifest.keywords:
        threshold = f"{keyword}: threshold {manifest.detector.thresholds[keyword]:.3f}"
        if not manifest.operating_curve.get(keyword):
            lines.append(f"  {threshold}, not measured yet")
            continue
        settings = [settings_at(manifest, {keyword: rate})[0] for rate in RATES_PER_DAY]
        shown = dict.fromkeys(f"    {s}{' (extrapolated)' * s.is_extrapolated}" for s in settings)
        condition = (manifest.evaluation or {}).get("curve_condition", "in noise")
        lines += [f"  {threshold}; false accepts, and misses ({condition}), of other choices:", *shown]
    return "\n".join(lines)


def _accuracy(manifest: Manifest) -> str:
    if not manifest.evaluation:
        return "not measured yet"
    accuracy = manifest.evaluation["accuracy"][SHIPPED]["all"]
    return f"labels {100 * accuracy:.1f} % of short clips correctly"
