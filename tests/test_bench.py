"""`kws bench` on the toy model: every promised figure is there and plausible. Speed itself is not tested."""

import json

import pytest

from kws.evaluate.bench import bench


def test_bench_measures_every_stage(toy_model):
    found = bench(toy_model, seconds=2)
    stages = [found[f"{stage}_ms_per_s"] for stage in ("features", "model", "detector")]
    assert all(stage > 0 for stage in stages)
    assert 0 < found["total_ms_per_s"] < 1000
    assert 0 < found["gated_ms_per_s"] < found["total_ms_per_s"]
    assert 0 < found["step_ms"]["p50"] <= found["step_ms"]["p95"] <= found["step_ms"]["p99"]
    assert 20 < found["rss_mb"] < 200
    assert 10 < found["cold_start_ms"] < 5000
    assert (found["chunk_ms"], found["hop_ms"], found["threads"]) == (80, 10, 1)
    assert {"kws", "python", "numpy", "onnxruntime"} <= set(found["versions"])
    assert json.loads(json.dumps(found)) == found


@pytest.mark.parametrize("json_wanted", [False, True])
def test_bench_command_prints_text_or_json(run_kws, toy_folder, json_wanted):
    done = run_kws("bench", "--model", toy_folder, "--seconds", 1, *(["--json"] if json_wanted else []))
    assert done.returncode == 0, done.stderr
    if json_wanted:
        assert json.loads(done.stdout)["model"] == "notes"
    else:
        assert "CPU per second of audio" in done.stdout


def test_bench_of_clients_says_what_each_costs_and_how_fast_it_is_answered(run_kws, toy_folder):
    done = run_kws("bench", "--model", toy_folder, "--clients", 3, "--seconds", 2, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["model"], found["clients"], found["seconds"]) == ("notes", 3, 2)
    assert 0 < found["cpu_ms_per_s"] < 1000
    assert found["core_share"] == pytest.approx(3 * found["cpu_ms_per_s"] / 1000)
    assert found["clients_per_core"] == int(1000 / found["cpu_ms_per_s"])
    delays_ms = [found["latency_ms"][p] for p in ("p50", "p95", "p99", "p100")]
    assert delays_ms[0] > 0
    assert delays_ms == sorted(delays_ms)
    assert found["memory_mb"] > 20


@pytest.mark.train
def test_bench_of_training_projects_the_recipe(tmp_path):
    pytest.importorskip("torch", reason="needs the train extra")
    from kws.train.bench import bench_recipe  # noqa: PLC0415

    recipe = {
        "name": "toy",
        "keywords": ["one", "two"],
        "network": {"channels": 8, "dilations": [1, 2]},
        "data": {"positives": 1000, "negatives": 3000, "window_frames": 120},
        "training": {"steps": 600, "positives_per_batch": 16, "negatives_per_batch": 32},
        "quantisation": {"steps": 60},
    }
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe))  # JSON is YAML
    found = bench_recipe(tmp_path / "recipe.yaml", jobs=1, seconds=0.5)
    assert json.loads(json.dumps(found)) == found
    minutes = found["projected_minutes"]
    assert minutes["rendering"] == pytest.approx(4000 / found["rendered_per_s"] / 60)
    assert minutes["float"] == pytest.approx(600 * 48 / found["float_per_s"] / 60)
    assert minutes["qat"] == pytest.approx(60 * 48 / found["qat_per_s"] / 60)
    assert minutes["total"] == pytest.approx(minutes["rendering"] + minutes["float"] + minutes["qat"])
    assert found["machine"]["cores"] >= 1
