"""What the check calls a regression: figures, costs and rows made up for each rule."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from padim_zoo.bench.check.baseline import Baseline, read_baseline, write_baseline
from padim_zoo.bench.check.comparison import compare
from padim_zoo.bench.check.cost import SIZES, TIMES
from padim_zoo.bench.check.finding import Limits
from padim_zoo.bench.check.machine import Machine
from padim_zoo.bench.check.microbenchmark import Microbenchmarks, Timing, fastest
from padim_zoo.bench.check.noise import (
    bootstrap_differences,
    image_metrics,
    repetition_interval,
    resampling_interval,
)
from padim_zoo.bench.check.row import Row, TestScores
from padim_zoo.bench.costs import IN_RUNTIMES
from padim_zoo.bench.run import RunConfig
from padim_zoo.bench.store import digest_of
from padim_zoo.core.errors import InputError
from padim_zoo.metrics import METRICS, evaluate, paired_difference

MACHINE = Machine(calibration_seconds=0.01, threads=2, jobs=1, gpu=None)
COSTS = {
    "fit_seconds": 4.0,
    "ms_per_image_b1": 20.0,
    "ms_per_image_b32": 10.0,
    **dict.fromkeys(IN_RUNTIMES, 15.0),
    "model_mb": 50.0,
    "peak_memory_mb": 900.0,
}
LABELS = np.repeat([0, 1], (20, 20)).astype(np.uint8)


def make_scores(folds=1, wrong=0, labels=LABELS):
    """All anomalous images above all normal ones, but for some that are below them all."""
    scores = np.arange(len(labels), dtype=np.float64) + 100 * labels
    scores[np.flatnonzero(labels)[:wrong]] -= 1000
    return np.tile(scores, (folds, 1))


def make_row(category="gear", seed=0, *, wrong=0, pixel=(0.9,), costs=None, machine=MACHINE, labels=LABELS, **config):
    folds = len(pixel)
    scores = make_scores(folds, wrong, labels)
    values = evaluate(labels, scores[0]).values
    metrics = {name: [math.nan] * folds for name in METRICS}
    metrics |= {name: [values[name]] * folds for name in image_metrics()}
    metrics |= {name: list(pixel) for name in ("pixel_auroc", "pixel_ap", "pixel_f1", "aupro")}
    run = RunConfig(
        dataset="mvtec",
        category=category,
        data="data",
        detector="padim",
        backbone="resnet18",
        weights_hash="hash",
        layers=("layer1",),
        n_components=100,
        estimator="full",
        seed=seed,
        folds=folds,
    )
    return Row(
        {**run.to_dict(), **config},
        "default",
        machine,
        metrics,
        {**COSTS, **(costs or {})},
        TestScores.of(labels, scores),
    )


def regressions(now, before, **limits):
    findings = compare(now, None, Baseline(before), Limits(**limits))
    return [(found.where, found.what) for found in findings.regressions]


def notes(now, before):
    return "\n".join(compare(now, None, Baseline(before), Limits()).notes)


# -- accuracy ---------------------------------------------------------------------------------------------------------


def test_the_same_is_no_regression():
    rows = [make_row(category, seed) for category in ("gear", "wood") for seed in (0, 1)]
    findings = compare(rows, None, Baseline(rows), Limits(0, 1, 1))
    assert (findings.regressions, findings.notes, findings.compared) == ([], [], ["4 runs"])


def test_a_drop_outside_its_interval_is_a_regression_and_one_inside_is_noise():
    before = [make_row()]
    assert regressions([make_row(wrong=6)], before) == [
        ("gear resnet18 full", "image_auroc"),
        ("gear resnet18 full", "image_ap"),
        ("gear resnet18 full", "image_f1"),
    ]
    one_image = [make_row(wrong=1)]  # AUROC falls by 0.05: five times what is allowed, and one image's doing
    assert regressions(one_image, before) == []
    assert "image_auroc 1.0000 → 0.9500 is within the noise" in notes(one_image, before)


def test_a_drop_is_allowed_up_to_the_limit():
    assert regressions([make_row(wrong=6)], [make_row()], accuracy_drop=math.inf) == []
    assert regressions([make_row(pixel=(0.88,))], [make_row(pixel=(0.9,))], accuracy_drop=0.03) == []


def test_a_gain_is_no_regression():
    assert regressions([make_row(pixel=(0.95,))], [make_row(wrong=6)]) == []


def test_a_drop_that_is_noise_in_each_category_is_none_in_their_mean():
    names = [f"category{number}" for number in range(8)]
    before = [make_row(name) for name in names]
    now = [make_row(name, wrong=1) for name in names]
    found = regressions(now, before)
    assert ("mean of 8 rows: resnet18 full", "image_auroc") in found
    assert {where for where, _ in found} == {"mean of 8 rows: resnet18 full"}


def test_seeds_on_the_same_images_are_no_more_images():
    """One image that is misjudged with every seed is still one image."""
    before = [make_row(seed=seed) for seed in range(8)]
    now = [make_row(seed=seed, wrong=1) for seed in range(8)]
    assert regressions(now, before) == []


@pytest.mark.parametrize(
    ("now", "before", "regressed"),
    [
        ((0.88,), (0.9,), True),  # nothing to judge noise by
        ((0.895,), (0.9,), False),
        ((0.88, 0.81, 0.89, 0.85), (0.90, 0.83, 0.91, 0.87), True),  # every fold by the same
        ((0.80, 0.93, 0.84, 0.87), (0.90, 0.83, 0.91, 0.87), False),  # one fold up, another down
    ],
)
def test_pixel_metrics_are_judged_by_their_folds(now, before, regressed):
    expected = {"pixel_auroc", "pixel_ap", "pixel_f1", "aupro"} if regressed else set()
    assert {what for _, what in regressions([make_row(pixel=now)], [make_row(pixel=before)])} == expected


@pytest.mark.parametrize("metric", [metric for metric in METRICS.values() if metric.needs_masks], ids=lambda m: m.name)
def test_a_drop_of_any_checked_metric_is_a_regression(metric):
    before, now = make_row(), make_row()
    before.metrics[metric.name], now.metrics[metric.name] = [0.6], [0.6 - 0.1 * metric.sign]
    assert regressions([now], [before]) == ([("gear resnet18 full", metric.name)] if metric.checked else [])
    assert regressions([before], [now]) == []


def test_every_metric_that_is_checked_is_documented():
    text = (Path(__file__).parents[2] / "docs" / "ci-check.md").read_text(encoding="utf-8")
    for metric in METRICS.values():
        assert (f"`{metric.name}`" in text) == metric.checked


def test_a_metric_that_is_no_longer_defined():
    found = regressions([make_row(pixel=(math.nan,))], [make_row()])
    assert found == [("gear resnet18 full", name) for name in ("pixel_auroc", "pixel_ap", "pixel_f1", "aupro")]
    assert regressions([make_row()], [make_row(pixel=(math.nan,))]) == []


def test_other_test_images_are_compared_unpaired():
    more = np.repeat([0, 1], (30, 25)).astype(np.uint8)
    assert "unpaired" in notes([make_row(labels=more)], [make_row()])
    assert ("gear resnet18 full", "image_auroc") in regressions([make_row(labels=more, wrong=15)], [make_row()])


# -- noise ------------------------------------------------------------------------------------------------------------


def test_bootstrap_agrees_with_the_paired_difference_of_metrics():
    random = np.random.default_rng(0)
    a, b = random.normal(size=(2, 40)) + LABELS
    interval = resampling_interval(
        bootstrap_differences(*(TestScores.of(LABELS, s[None]) for s in (a, b)), 0)["image_auroc"]
    )
    expected = paired_difference(LABELS, b, a)
    assert interval == pytest.approx((expected.low, expected.high), abs=0.03)


def test_ranks_keep_every_image_metric():
    random = np.random.default_rng(0)
    scores = np.round(random.normal(size=(3, 40)) + LABELS, 1)  # with ties
    ranks = TestScores.of(LABELS, scores).ranks
    for fold, ranked in zip(scores, ranks, strict=True):
        now, before = evaluate(LABELS, fold).values, evaluate(LABELS, ranked).values
        assert {name: now[name] for name in image_metrics()} == {name: before[name] for name in image_metrics()}


def test_repetitions_by_students_t():
    differences = [-0.02, -0.01, -0.03, 0.01]
    expected = stats.ttest_1samp(differences, 0).confidence_interval(0.95)
    assert repetition_interval(differences) == pytest.approx((expected.low, expected.high))
    assert repetition_interval(differences[:2]) is None


def test_no_interval_without_anomalous_images():
    scores = TestScores.of(np.zeros(9, dtype=np.uint8), np.arange(9.0)[None])
    assert resampling_interval(bootstrap_differences(scores, scores, 0)["image_auroc"]) is None


# -- costs ------------------------------------------------------------------------------------------------------------


def test_every_cost_of_the_leaderboard_is_compared():
    assert {cost.name for cost in (*TIMES, *SIZES)} == set(COSTS)


@pytest.mark.parametrize("name", COSTS)
def test_a_cost_beyond_its_limit_is_a_regression(name):
    limit = 1.3 if name in {cost.name for cost in TIMES} else 1.2
    assert regressions([make_row(costs={name: COSTS[name] * limit * 0.99})], [make_row()]) == []
    found = regressions([make_row(costs={name: COSTS[name] * limit * 1.01})], [make_row()])
    assert found == [("gear resnet18 full", name)]


def test_times_are_ratios_to_the_calibration():
    slow_machine = replace(MACHINE, calibration_seconds=0.03)
    times = {cost.name: 3 * COSTS[cost.name] for cost in TIMES}
    assert regressions([make_row(costs=times, machine=slow_machine)], [make_row()]) == []
    # Times as before on a machine three times as slow before: it is the code that has become slower.
    assert {what for _, what in regressions([make_row()], [make_row(machine=slow_machine)])} == set(times)
    assert regressions([make_row(machine=slow_machine)], [make_row()]) == []


@pytest.mark.parametrize("change", [{"threads": 4}, {"jobs": 2}, {"gpu": "a GPU"}])
def test_times_of_other_kinds_of_machines_are_not_compared(change):
    now = [make_row(costs={"fit_seconds": 99.0, "model_mb": 99.0}, machine=replace(MACHINE, **change))]
    assert regressions(now, [make_row()]) == [("gear resnet18 full", "model_mb")]
    assert "times are not compared" in notes(now, [make_row()])


def test_times_in_another_precision_are_not_compared_but_metrics_are(tmp_path):
    slow = {"fit_seconds": 40.0, "ms_per_image_b1": 200.0}
    here = replace(make_row(costs=slow, precision="auto"), precision="float32")
    there = replace(make_row(precision="auto"), precision="bfloat16")
    write_baseline(tmp_path / "baseline.json", Baseline([there]))
    before = read_baseline(tmp_path / "baseline.json").rows
    assert regressions([here], before) == []
    assert "times are not compared (precision: float32 here, bfloat16 in the baseline): gear" in notes([here], before)
    assert regressions([replace(here, precision="bfloat16")], before) != []
    worse = replace(make_row(wrong=6, precision="auto"), precision="float32")
    assert ("gear resnet18 full", "image_auroc") in regressions([worse], before)


def test_one_slow_row_of_several_is_told_of_and_not_counted():
    before = [make_row(seed=seed) for seed in range(3)]
    slow = {"ms_per_image_b1": 500.0}
    now = [make_row(seed=seed, costs=slow if seed == 0 else None) for seed in range(3)]
    assert regressions(now, before) == []
    assert "ms_per_image_b1 over × 1.69 in single rows, which does not count: gear resnet18 full seed 0" in notes(
        now, before
    )


@pytest.mark.parametrize(
    ("ratios", "regressed"),
    [
        ((1.4,), True),
        ((1.4, 1.2), False),
        ((1.4, 9.0), True),
        ((1.4, 1.5, 1.2), True),
        ((1.4, 1.4, 1.4, 0.3, 9.0), False),  # a machine so busy that half as slow again means nothing
        ((2.9, 3.0, 3.1, 2.5, 9.0), True),
        ((9.0, 9.0, 1.0, 1.0, 1.0), False),
    ],
)
def test_times_of_several_rows_count_by_their_median_and_scatter(ratios, regressed):
    before = [make_row(seed=seed) for seed in range(len(ratios))]
    now = [make_row(seed=seed, costs={"fit_seconds": ratio * 4}) for seed, ratio in enumerate(ratios)]
    assert bool(regressions(now, before)) == regressed


def test_small_growth_is_never_held_against_a_run():
    small = {
        "fit_seconds": 0.05,
        "ms_per_image_b1": 0.5,
        "ms_per_image_b32": 0.2,
        "model_mb": 0.0,
        "peak_memory_mb": 9.0,
    }
    grown = {name: value + 0.05 for name, value in small.items()}
    assert regressions([make_row(costs=grown)], [make_row(costs=small)]) == []


def test_a_cost_that_was_not_measured_is_left_out():
    unknown = dict.fromkeys(COSTS, math.nan)
    assert regressions([make_row()], [make_row(costs=unknown)]) == []
    assert regressions([make_row(costs=unknown)], [make_row()]) == []


# -- rows on one side -------------------------------------------------------------------------------------------------


def test_missing_and_failed_runs_are_regressions_and_new_ones_are_told_of():
    before = [make_row(name) for name in ("gear", "wood", "cable")]
    failed = replace(make_row("wood"), error="out of luck", scores=None, metrics={}, costs={})
    now = [make_row("gear"), failed, make_row("leather")]
    findings = compare(now, None, Baseline(before), Limits())
    assert {(found.where, found.now) for found in findings.regressions} == {
        ("wood resnet18 full", "failed"),
        ("cable resnet18 full", "missing"),
    }
    assert "out of luck" in [found.why for found in findings.regressions]
    assert findings.notes == ["runs that the baseline lacks: leather resnet18 full"]
    assert findings.compared == ["2 runs"]


def test_other_weights_and_fresh_data_are_the_same_row():
    now = [make_row(weights_hash="other", data="copied", results_version=99)]
    assert regressions(now, [make_row()]) == []
    assert "weights are not those of the baseline" in notes(now, [make_row()])
    assert "another version of results" in notes(now, [make_row()])


def test_rows_that_differ_in_weights_alone_are_told_apart():
    trained, random = (
        make_row(weights_hash="trained"),
        replace(make_row(weights_hash="random", wrong=8), weights="none"),
    )
    assert regressions([random, trained], [trained, random]) == []
    assert regressions([trained], [trained, random]) == [("gear resnet18 full weights none", "status")]


def test_nothing_in_common():
    with pytest.raises(InputError, match="none of the 1 runs"):
        compare([make_row("gear")], None, Baseline([make_row("wood")]), Limits())
    with pytest.raises(InputError, match=r"baseline \(precision auto here, float32 there\): give"):
        compare([make_row(precision="auto")], None, Baseline([make_row(precision="float32")]), Limits())
    with pytest.raises(InputError, match="none of the 1 runs"):
        compare([make_row("gear")], None, Baseline(), Limits())


# -- benchmarks -------------------------------------------------------------------------------------------------------


def stages(machine=MACHINE, **medians):
    return Microbenchmarks(machine, {name: Timing(0.9 * median, median) for name, median in medians.items()})


def benchmark_regressions(now, before):
    findings = compare(None, now, Baseline(benchmarks=before), Limits())
    return [(found.where, found.now) for found in findings.regressions], findings.notes


def test_a_slower_benchmark_is_a_regression():
    before = stages(fit=0.2, score=0.1)
    assert benchmark_regressions(stages(fit=0.2, score=0.12), before) == ([], [])
    assert benchmark_regressions(stages(fit=0.2, score=0.14), before) == ([("score", "140 ms")], [])
    slow = replace(MACHINE, calibration_seconds=0.02)
    assert benchmark_regressions(stages(slow, fit=0.4, score=0.2), before) == ([], [])
    other = replace(MACHINE, threads=1)
    assert benchmark_regressions(stages(other, fit=9.0, score=9.0), before)[0] == []


def test_a_benchmark_that_still_has_a_fast_round_is_none_the_slower():
    before = Microbenchmarks(MACHINE, {"fit": Timing(0.1, 0.1)})
    assert benchmark_regressions(Microbenchmarks(MACHINE, {"fit": Timing(0.12, 9.0)}), before) == ([], [])
    assert benchmark_regressions(Microbenchmarks(MACHINE, {"fit": Timing(0.14, 9.0)}), before)[0] == [
        ("fit", "9000 ms")
    ]


def test_a_missing_benchmark_is_a_regression_and_a_new_one_is_told_of():
    found, told = benchmark_regressions(stages(score=0.1, metrics=1.0), stages(fit=0.2, score=0.1))
    assert found == [("fit", "missing")]
    assert told == ["benchmarks that the baseline lacks: metrics"]
    with pytest.raises(InputError, match="none of the 1 benchmarks"):
        benchmark_regressions(stages(fit=0.1), stages(score=0.1))


def beside(median, reference):
    return Timing(0.9 * median, median, Timing(0.9 * reference, reference))


def test_a_benchmark_is_measured_in_its_reference_where_it_has_one():
    before = Microbenchmarks(MACHINE, {"fit": beside(0.2, reference=0.1)})
    # The calibration workload says that this machine is as fast, but the reference took three times as long.
    same = Microbenchmarks(MACHINE, {"fit": beside(0.6, reference=0.3)})
    assert benchmark_regressions(same, before) == ([], [])
    fast_machine = Microbenchmarks(MACHINE, {"fit": beside(0.2, reference=0.05)})
    assert benchmark_regressions(fast_machine, before)[0] == [("fit", "200 ms")]
    # Either by its median or by its fastest round alone it is not slower.
    lucky = Timing(0.1, 0.9, Timing(0.09, 0.1))
    assert benchmark_regressions(Microbenchmarks(MACHINE, {"fit": lucky}), before) == ([], [])
    unlucky = Timing(0.29, 0.3, Timing(0.09, 0.2))
    assert benchmark_regressions(Microbenchmarks(MACHINE, {"fit": unlucky}), before) == ([], [])
    assert benchmark_regressions(stages(fit=0.3), before)[0] == [("fit", "300 ms")]  # by the calibration workload


def test_of_several_sessions_the_least_ratio_to_the_reference_counts():
    sessions = [
        Microbenchmarks(MACHINE, {"fit": beside(*times)}, skipped)
        for times, skipped in (
            ((0.2, 0.1), {"score": "no bfloat16"}),
            ((0.3, 0.2), {"score": "no bfloat16"}),
            ((0.1, 0.01), {"fit": "?"}),
        )
    ]
    least = fastest(sessions)
    assert least.timings["fit"].median == pytest.approx(0.15)
    assert least.timings["fit"].reference == sessions[0].timings["fit"].reference
    assert least.skipped == {"score": "no bfloat16"}


def test_a_benchmark_that_this_machine_cannot_run_is_told_of():
    now = Microbenchmarks(MACHINE, {"fit": Timing(0.1, 0.1)}, {"score": "no bfloat16", "other": "?"})
    assert benchmark_regressions(now, stages(fit=0.1, score=0.1)) == (
        [],
        ["benchmarks not run here (no bfloat16): score"],
    )


@pytest.mark.parametrize("busy", ["now", "before"])
def test_times_on_the_clock_of_a_busy_machine_are_not_compared(busy):
    crowded = replace(MACHINE, processor_share=0.35)
    machines = {"now": MACHINE, "before": MACHINE, busy: crowded}
    row = make_row()
    slow = replace(row, machine=machines["now"], costs={name: 9 * cost for name, cost in row.costs.items()})
    findings = compare([slow], None, Baseline([replace(row, machine=machines["before"])]), Limits(memory_growth=10))
    assert findings.regressions == []
    assert any("other work left 35% of the processor" in note for note in findings.notes)
    now = Microbenchmarks(machines["now"], {"fit": beside(0.9, reference=0.1), "score": Timing(9.0, 9.0)})
    before = Microbenchmarks(machines["before"], {"fit": beside(0.2, reference=0.1), "score": Timing(0.1, 0.1)})
    found, told = benchmark_regressions(now, before)
    assert found == [("fit", "900 ms")]
    assert "score" in told[0]


def test_a_part_that_is_not_given_is_told_of():
    both = Baseline([make_row()], stages(fit=1.0))
    assert "no run store was given" in compare(None, stages(fit=1.0), both, Limits()).notes[0]
    assert "--benchmarks was not given" in compare([make_row()], None, both, Limits()).notes[0]


# -- files ------------------------------------------------------------------------------------------------------------


def test_a_baseline_reads_back_as_written(tmp_path):
    rows = [make_row("wood", pixel=(0.9, math.nan)), make_row("gear", costs={"model_mb": math.nan})]
    path = tmp_path / "baseline.json"
    benchmarks = Microbenchmarks(MACHINE, {"fit": Timing(0.18, 0.2), "score": beside(0.3, reference=0.1)})
    write_baseline(path, Baseline(rows, benchmarks))
    read = read_baseline(path)
    assert read.benchmarks == benchmarks
    assert [row.to_dict() for row in read.rows] == [row.to_dict() for row in reversed(rows)]
    assert regressions(read.rows, rows, accuracy_drop=0, slowdown=1, memory_growth=1) == []


def test_a_setting_that_an_older_version_did_not_know_has_its_default(tmp_path):
    row = make_row()
    older = replace(
        row, config={name: value for name, value in row.config.items() if name not in ("train_size", "members")}
    )
    write_baseline(tmp_path / "baseline.json", Baseline([older]))
    assert regressions([row], read_baseline(tmp_path / "baseline.json").rows) == []


def test_a_metric_that_an_older_baseline_does_not_have_is_not_compared(tmp_path):
    path = tmp_path / "baseline.json"
    write_baseline(path, Baseline([make_row(pixel=(0.9, 0.8))]))
    content = json.loads(path.read_text())
    del content["rows"][0]["figures"]["aupro"]
    path.write_text(json.dumps(content | {"digest": digest_of(content)}))
    before = read_baseline(path).rows
    assert np.isnan(before[0].metrics["aupro"]).all()
    assert regressions([make_row(pixel=(0.9, 0.8))], before) == []
    assert ("gear resnet18 full", "pixel_auroc") in regressions([make_row(pixel=(0.5, 0.4))], before)


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content.pop("rows"),
        lambda content: content.pop("benchmarks"),
        lambda content: content.update(rows=content["rows"][0]),
        lambda content: content["rows"][0].pop("labels"),
        lambda content: content["rows"][0]["ranks"][0].pop(),
        lambda content: content["rows"][0]["ranks"].pop(),
        lambda content: content["rows"][0]["machine"].update(calibration_seconds=0),
        lambda content: content["rows"][0]["costs"].pop("fit_seconds"),
        lambda content: content["rows"][0]["figures"]["aupro"].append(0.5),
        lambda content: content["rows"][0]["config"].pop("category"),
        lambda content: content["benchmarks"]["timings"].update(fit={"median": 1}),
        lambda content: content["benchmarks"].update(timings=[]),
    ],
)
def test_a_damaged_baseline_is_refused(tmp_path, damage):
    path = tmp_path / "baseline.json"
    write_baseline(path, Baseline([make_row()], stages(fit=0.2)))
    content = json.loads(path.read_text())
    damage(content)
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match="its digest differs"):
        read_baseline(path)
    path.write_text(json.dumps(content | {"digest": digest_of(content)}))
    with pytest.raises(InputError, match="is damaged"):
        read_baseline(path)


def test_limits_that_are_none():
    for wrong in ({"accuracy_drop": -0.1}, {"slowdown": 0.9}, {"memory_growth": math.nan}):
        with pytest.raises(InputError, match="expected"):
            Limits(**wrong)
