"""`kws models`: list the installed models and what was measured on them."""

import argparse
from pathlib import Path

from kws.errors import KwsError, ModelError
from kws.evaluate.card import SHIPPED
from kws.manifest import Manifest, installed_models, read_manifest


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
    """A headline, then one line per keyword."""
    kilobytes, parameters = manifest.model.bytes / 1000, manifest.model.parameters
    lines = [f"{folder.name}  {kilobytes:.0f} kB, {parameters} parameters, {manifest.licence}  {folder}"]
    if manifest.is_classifier:
        lines.append(f"  {', '.join(manifest.words)}: {_accuracy(manifest)}")
        return "\n".join(lines)
    width = max(map(len, manifest.keywords))
    lines += [f"  {keyword:{width}}  {_figures(manifest, keyword)}" for keyword in manifest.keywords]
    return "\n".join(lines)


def _figures(manifest: Manifest, keyword: str) -> str:
    threshold = manifest.detector.thresholds[keyword]
    curve = manifest.operating_curve.get(keyword)
    if not curve:
        return f"threshold {threshold:.3f}, not measured yet"
    point = min(curve, key=lambda point: abs(point.threshold - threshold))
    return (
        f"threshold {threshold:.3f}: misses {100 * point.false_reject_rate:.1f} % "
        f"at {point.false_accepts_per_hour:.2g} false accepts per hour"
    )


def _accuracy(manifest: Manifest) -> str:
    if not manifest.evaluation:
        return "not measured yet"
    accuracy = manifest.evaluation["accuracy"][SHIPPED]["all"]
    return f"labels {100 * accuracy:.1f} % of short clips correctly"
