from __future__ import annotations

import io
import json
import math
import random
import re
from copy import deepcopy
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from padim_zoo.bench.best_values import best_values
from padim_zoo.bench.board_tables import rows_table
from padim_zoo.bench.formats import to_csv, to_json, to_markdown, to_parquet
from padim_zoo.bench.leaderboard import columns, leaderboard, sort_rows, summarize
from padim_zoo.bench.published import add_published, published_figures
from padim_zoo.bench.run import RunConfig
from padim_zoo.bench.table import BoardTable
from padim_zoo.core.errors import InputError


def run(
    category="a",
    backbone="resnet18",
    estimator="full",
    folds=(0.8,),
    *,
    failed=False,
    weights="default",
    created="2020",
    figures=None,
    **config,
):
    config = RunConfig(
        **{
            "dataset": "mvtec",
            "category": category,
            "data": f"files of {category}",
            "detector": "padim",
            "backbone": backbone,
            "weights_hash": f"hash of {backbone}",
            "layers": ("layer1", "layer2", "layer3"),
            "reduction": "random",
            "precision": "float32",
            "n_components": 100 if backbone == "resnet18" else 550,
            "estimator": estimator,
            "resize": 256,
            "crop": 224,
            "sigma": 4.0,
            "seed": 0,
            "folds": 1,
            **config,
        }
    )
    figures = {"pixel_auroc": math.nan, "aupro": 0.5, **(figures or {})}
    return {
        "id": config.id,
        "created": created,
        "config": config.to_dict(),
        "weights": weights,
        "status": "failed" if failed else "done",
        "n_train": None if failed else 50,
        "n_test": None if failed else 10,
        "folds": [] if failed else [{"image_auroc": value, **figures} for value in folds],
        "interval": {} if failed else {"image_auroc_low": 0.1, "image_auroc_high": 0.9},
        "timings": {} if failed else {"fit_seconds": 2.0, "model_mb": 30.0},
        "notes": [],
        "error": {"type": "ValueError", "message": "no luck", "traceback": "…"} if failed else None,
    }


def test_it_is_a_function_of_the_documents_alone():
    documents = [run(c, b, seed=s) for c in "abc" for b in ("resnet18", "wide_resnet50_2") for s in (0, 1)]
    untouched = deepcopy(documents)
    board = leaderboard(documents)
    random.Random(3).shuffle(documents)
    pd.testing.assert_frame_equal(leaderboard(documents), board)
    assert sorted(documents, key=lambda d: d["id"]) == sorted(untouched, key=lambda d: d["id"])
    assert list(board.columns) == [column.name for column in columns()]


def test_an_empty_leaderboard_has_all_columns():
    assert list(leaderboard([]).columns) == [column.name for column in columns()]


def test_mean_rows_average_categories_and_seeds():
    values = {("a", 0): (0.7, 0.9), ("b", 0): (0.5, 0.5), ("a", 1): (1.0, 0.8), ("b", 1): (0.6, 0.2)}
    board = leaderboard([run(c, folds=folds, seed=s) for (c, s), folds in values.items()])
    mean = board[board["category"] == "mean"]
    assert len(mean) == 1
    row = mean.iloc[0]
    assert row["image_auroc"] == pytest.approx(np.mean(list(values.values())))
    # A repetition is a fold of a seed, averaged over the categories.
    repetitions = [np.mean([values["a", s][f], values["b", s][f]]) for s in (0, 1) for f in (0, 1)]
    assert row["image_auroc_std"] == pytest.approx(np.std(repetitions, ddof=1))
    assert math.isnan(row["image_auroc_low"])
    assert (row["categories"], row["runs"], row["status"]) == (2, 4, "done")
    assert row["backbone"] == "resnet18"
    assert row["seed"] is pd.NA
    assert math.isnan(row["pixel_auroc"])


def test_every_category_counts_alike_however_many_seeds_it_has():
    values = {("a", 0): 0.9, ("a", 1): 0.7, ("b", 0): 0.5}
    row = leaderboard([run(c, folds=(value,), seed=s) for (c, s), value in values.items()]).iloc[-1]
    assert row["image_auroc"] == pytest.approx(np.mean([0.8, 0.5]))
    assert math.isnan(row["image_auroc_std"])  # one seed alone has both categories
    values |= {("b", 1): 0.6, ("a", 2): 0.1}
    row = leaderboard([run(c, folds=(value,), seed=s) for (c, s), value in values.items()]).iloc[-1]
    assert row["image_auroc_std"] == pytest.approx(np.std([0.7, 0.65], ddof=1))


def test_older_runs_on_other_data_are_left_out_and_counted():
    now = [run(c, folds=(0.9,), seed=s, created="2022") for c in "ab" for s in (0, 1)]
    before = [run("a", folds=(0.1,), seed=s, data="older", created="2021") for s in (0, 2)]
    other = run("a", estimator="oas", folds=(0.2,), data="older", created="2021")
    board = leaderboard([*before, *now, other])
    assert board["image_auroc"].tolist() == pytest.approx([0.9, 0.9, 0.2, 0.9, 0.9, 0.9, 0.2])
    mean = board[board["id"].isna()].set_index("estimator")
    assert mean.loc["full", "notes"] == "2 older runs on other data left out"
    assert mean.loc["full", "status"] == "done"
    assert board["notes"].tolist().count("2 older runs on other data left out") == 2
    assert summarize([*before, *now], ["backbone"])["image_auroc"].tolist() == pytest.approx([0.9])


def test_a_mean_says_which_category_lacks_a_figure():
    row = leaderboard([run("a", figures={"aupro": math.nan}), run("b")]).iloc[-1]
    assert math.isnan(row["aupro"])
    assert row["notes"] == "no mean of aupro: undefined in a"


def test_a_category_called_mean_is_a_run():
    board = leaderboard([run("mean", folds=(0.9,)), run("z", folds=(0.1,))])
    assert board["id"].isna().tolist() == [False, False, True]
    assert sort_rows(board, "image_auroc")["image_auroc"].tolist() == pytest.approx([0.9, 0.1, 0.5])
    assert add_published(board)["published_source"].isna().all()
    assert "*" not in text_of(board).splitlines()[-4]


def test_one_run_has_no_mean_row():
    assert len(leaderboard([run()])) == 1


def test_mean_rows_say_what_they_lack():
    board = leaderboard([run("a"), run("b", failed=True), run("a", estimator="oas"), run("b", estimator="oas")])
    mean = board[board["category"] == "mean"].set_index("estimator")
    assert mean.loc["full", "notes"] == "mean over 1 of 2 categories, without b; 1 of 2 runs failed"
    assert mean.loc["full", "status"] == "partial"
    assert mean.loc["full", "image_auroc"] == pytest.approx(0.8)
    assert mean.loc["oas", "notes"] is None


def test_a_mean_over_fewer_categories_than_others_says_so():
    board = leaderboard([run("a"), run("b"), run("a", backbone="wide_resnet50_2")])
    mean = board[board["category"] == "mean"].set_index("backbone")
    assert mean.loc["wide_resnet50_2", "notes"] == "mean over 1 of 2 categories, without b"
    assert mean.loc["resnet18", "notes"] is None


@pytest.mark.parametrize(
    "other",
    [
        {"sigma": 0.0},
        {"crop": None},
        {"n_components": 7},
        {"weights_hash": "other"},
        {"results_version": 9},
        {"ensemble": "max"},
    ],
)
def test_different_configurations_are_never_averaged_together(other):
    board = leaderboard([run("a"), run("b"), *(run(c, **other) for c in "ab")])
    assert len(board[board["category"] == "mean"]) == 2


def test_summarize_is_the_mean_over_everything_else():
    documents = [run(c, b, e, folds=(v,)) for c, b, e, v in [
        ("a", "resnet18", "full", 0.1),
        ("b", "resnet18", "oas", 0.3),
        ("a", "wide_resnet50_2", "full", 0.8),
    ]]  # fmt: skip
    by_backbone = summarize(documents, ["backbone"]).set_index("backbone")
    assert by_backbone["image_auroc"].to_dict() == pytest.approx({"resnet18": 0.2, "wide_resnet50_2": 0.8})
    assert by_backbone.loc["resnet18", "estimator"] is None
    assert by_backbone.loc["wide_resnet50_2", "estimator"] == "full"
    by_category = summarize(documents, ["category"]).set_index("category")
    assert by_category["image_auroc"].to_dict() == pytest.approx({"a": 0.45, "b": 0.3})
    assert by_category["notes"].tolist() == [None, None]
    assert len(summarize(documents, ["backbone", "estimator"])) == 3
    with pytest.raises(InputError, match="unknown column 'backbon': did you mean backbone"):
        summarize(documents, ["backbon"])
    with pytest.raises(InputError, match="unknown column 'image_auroc'"):
        summarize(documents, ["image_auroc"])


def test_times_on_several_processors_have_no_mean():
    here, there = run("bottle"), run("hazelnut")
    for document, processor in ((here, "A"), (there, "B")):
        document["environment"] = {"cpu": processor, "gpu": None}
        document["timings"] = {"fit_seconds": 2.0, "model_mb": 4.0}
    mean = leaderboard([here, there]).iloc[-1]
    assert mean["notes"] == "no mean of times: 1 on A, 1 on B"
    assert math.isnan(mean["fit_seconds"])
    assert mean["model_mb"] == 4.0
    there["environment"]["cpu"] = "A"
    mean = leaderboard([here, there]).iloc[-1]
    assert (mean["notes"], mean["fit_seconds"]) == (None, 2.0)
    there["environment"]["gpu"] = "G"
    assert leaderboard([here, there]).iloc[-1]["notes"] == "no mean of times: 1 on A, 1 on A with G"


def test_what_auto_came_to_is_shown_and_does_not_part_a_mean():
    here, there, failed = run("bottle", precision="auto"), run("hazelnut", precision="auto"), run("cable", failed=True)
    here["precision"], there["precision"] = "bfloat16", "float32"
    board = leaderboard([here, there])
    assert list(board["precision"].fillna("")) == ["bfloat16", "float32", ""]
    assert list(board["precision_asked"]) == ["auto"] * 3
    assert board.iloc[-1]["notes"] == "precision auto was bfloat16 in 1 run and float32 in 1 run"
    heading = text_of(board, width=300).splitlines()[0]
    assert "precision auto" in heading
    assert "precision" in text_of(board, width=300).split("AUPRO")[0].replace(heading, "")
    there["precision"] = "bfloat16"
    board = leaderboard([here, there])
    assert list(board["precision"]) == ["bfloat16"] * 3
    assert board.iloc[-1]["notes"] is None
    assert "precision auto (bfloat16)" in text_of(board, width=300).splitlines()[0]
    assert leaderboard([failed])["precision"][0] == "float32"  # documents of older versions say what was computed


def test_what_ran_the_backbone_is_shown_where_it_differs_and_does_not_part_a_mean():
    here, there, old = run("bottle"), run("hazelnut"), run("cable")
    here["runtime"], there["runtime"] = "torch", "openvino"
    board = leaderboard([here, there, old])
    assert board["runtime"].tolist() == ["torch", None, "openvino", None]
    assert board.iloc[-1]["notes"] == "the runtime was openvino in 1 run and torch in 1 run"
    heading, *rows = text_of(board, width=300).splitlines()
    assert "runtime" not in heading
    assert "openvino" in "".join(rows)
    there["runtime"] = "torch"
    board = leaderboard([here, there])
    assert board["runtime"].tolist() == ["torch"] * 3
    assert board.iloc[-1]["notes"] is None
    heading, *rows = text_of(board, width=300).splitlines()
    assert "runtime torch" in heading
    assert "torch" not in "".join(rows)


def test_sorting_knows_which_way_is_better():
    documents = [run(c, folds=(v,)) for c, v in [("a", 0.2), ("b", 0.9), ("c", 0.5)]]
    documents += [run("d", failed=True)]
    documents[0]["timings"]["fit_seconds"] = 1.0
    board = leaderboard(documents)
    assert sort_rows(board, "image_auroc")["category"].tolist() == ["b", "c", "a", "d", "mean"]
    assert sort_rows(board, "fit_seconds")["category"].tolist() == ["a", "b", "c", "d", "mean"]
    assert sort_rows(board, "category")["category"].tolist() == ["a", "b", "c", "d", "mean"]
    with pytest.raises(InputError, match="did you mean image_auroc"):
        sort_rows(board, "image_aurok")


def test_formats_hold_every_row_and_column():
    board = leaderboard([run("a|b", crop=(224, 200)), run("b", failed=True, crop=(224, 200))])
    rows = json.loads(to_json(board), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert [list(row) for row in rows] == [list(board.columns)] * 3
    assert rows[0]["n_components"] == 100
    assert rows[0]["crop"] == "224x200"
    assert rows[0]["layers"] == "layer1,layer2,layer3"
    assert rows[0]["pixel_auroc"] is None
    assert rows[1]["error"] == "ValueError: no luck"
    csv = pd.read_csv(io.BytesIO(to_csv(board)))
    assert csv["image_auroc"].tolist() == pytest.approx([0.8, math.nan, 0.8], nan_ok=True)
    pytest.importorskip("pyarrow")
    parquet = pd.read_parquet(io.BytesIO(to_parquet(board)))
    assert parquet["image_auroc"].tolist() == pytest.approx([0.8, math.nan, 0.8], nan_ok=True)
    table = rows_table(board)
    lines = [line for line in to_markdown([table]).decode().splitlines() if line.startswith("|")]
    assert len(lines) == 2 + len(board)
    assert "a\\|b" in lines[2]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {len(table.columns) + 1}


def text_of(board, width=100, sorted_by=None):
    console = Console(file=io.StringIO(), width=width)
    console.print(BoardTable(board, sorted_by))
    return console.file.getvalue()


def test_the_table_shows_what_differs_and_marks_the_best():
    documents = [run(c, b, folds=(v,)) for c, b, v in [
        ("a", "resnet18", 0.1),
        ("a", "wide_resnet50_2", 0.3),
        ("b", "resnet18", 0.8),
        ("b", "wide_resnet50_2", 0.6),
    ]]  # fmt: skip
    documents += [run("c", failed=True)]
    text = text_of(leaderboard(documents))
    heading, *lines = text.splitlines()
    assert "detector padim" in heading
    assert "weights" not in lines[1]  # they follow from the backbone
    stars = {tuple(line.split()[:2]): "*" in line.split()[2] for line in lines if re.match("[ab] ", line)}
    assert {key for key, star in stars.items() if star} == {("a", "wide_resnet50_2"), ("b", "resnet18")}
    assert "failed: ValueError: no luck" in text
    assert "mean over 2 of 3 categories, without c" in text
    assert max(map(len, text_of(leaderboard(documents), 80).splitlines())) <= 80


def test_figures_that_do_not_deviate_have_no_deviation_in_the_table():
    shown = text_of(leaderboard([run("a", folds=folds) for folds in [(0.7, 0.7)]]))
    assert "0.700 " in shown
    assert "±" not in shown
    assert "0.700±<.001" in text_of(leaderboard([run("a", folds=(0.7, 0.7003))]))
    assert "0.700±.014" in text_of(leaderboard([run("a", folds=(0.69, 0.71))]))


def test_the_table_keeps_brackets_and_shows_the_column_sorted_by():
    board = leaderboard([run("[bold]a"), run("b")])
    assert "[bold]a" in text_of(board)
    assert "F1-max" not in text_of(board)
    assert "F1-max" in text_of(sort_rows(board, "image_f1"), sorted_by="image_f1")


def test_published_figures_stand_beside_the_same_detector():
    board = add_published(
        leaderboard([run("bottle", "wide_resnet50_2"), run("bottle"), run("bottle", estimator="oas")])
    )
    rows = board[board["category"] == "bottle"].set_index(["backbone", "estimator"])
    wide = rows.loc[("wide_resnet50_2", "full")]
    assert wide["published_pixel_auroc"] == 0.983  # the paper's
    assert wide["published_aupro"] == 0.948
    assert wide["published_image_auroc"] == pytest.approx(
        0.998, abs=0.003
    )  # reimplemented: the paper has the mean only
    assert "pixel_auroc: padim (paper)" in wide["published_source"]
    assert "image_auroc: padim-xiahaifeng (reimpl)" in wide["published_source"]
    assert math.isnan(rows.loc[("resnet18", "oas"), "published_pixel_auroc"])
    assert rows.loc[("resnet18", "full"), "published_pixel_auroc"] > 0.9


@pytest.mark.parametrize(
    "config", [{"backbone": "torchvision/resnet18", "n_components": 100}, {"estimator": "full(0.01)"}, {"seed": 3}]
)
def test_other_spellings_have_the_published_figure(config):
    [row] = add_published(leaderboard([run(**{"category": "bottle", **config})])).to_dict("records")
    assert row["published_pixel_auroc"] > 0.9


@pytest.mark.parametrize(
    "documents",
    [
        [run("hazelnut_reduced")],
        [run("hazelnut", dataset="folder")],
        [run("hazelnut", n_components=50)],
        [run("hazelnut", weights="none")],
        [run("hazelnut", layers=("layer1", "layer2"))],
        [run("hazelnut", reduction="orthogonal")],
        [run("hazelnut", resize=320)],
        [run("hazelnut", crop=None)],
        [run("hazelnut", sigma=0.0)],
        [run("hazelnut", folds=(0.8, 0.9)) | {"config": run("hazelnut")["config"] | {"folds": 2}}],
        [run("hazelnut", estimator="full(epsilon=1)")],
        [run("hazelnut", detector="p.dim")],
        [run("bottle", "wide_resnet50_2", detector="patchcore", resize=320)],
        [run("hazelnut", ensemble="mean")],
        [run("hazelnut", backbone="builtin")],
    ],
)
def test_another_configuration_has_no_published_figure(documents):
    board = add_published(leaderboard(documents))
    assert board[["published_image_auroc", "published_pixel_auroc", "published_aupro"]].isna().all().all()
    assert board["published_source"].isna().all()


def test_the_published_mean_is_of_all_fifteen_categories():
    names = sorted(set(published_figures()["category"]) - {"mean"})
    assert len(names) == 15
    full = add_published(leaderboard([run(name, "wide_resnet50_2") for name in names])).iloc[-1]
    assert (full["category"], full["published_image_auroc"], full["published_pixel_auroc"]) == ("mean", 0.953, 0.975)
    part = add_published(leaderboard([run(name, "wide_resnet50_2") for name in names[1:]])).iloc[-1]
    assert part["category"] == "mean"
    assert math.isnan(part["published_pixel_auroc"])


def test_every_column_is_documented():
    text = (Path(__file__).parents[2] / "docs" / "leaderboard.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"`(\w+)`", text))
    assert {column.name for column in columns()} <= documented


def test_the_luckiest_of_several_seeds_is_not_the_best():
    seeds = [run(backbone="a", seed=seed, folds=(auroc,)) for seed, auroc in enumerate([0.99, 0.60])]
    steady = [run(backbone="b", seed=seed, folds=(0.9,)) for seed in range(2)]
    board = leaderboard([*seeds, *steady])
    best = {board["backbone"][number] for number, name in best_values(board, ["image_auroc"]) if board["id"][number]}
    assert best == {"b"}
    assert best_values(leaderboard(seeds), ["image_auroc"]) == set()


def test_aupimo_under_other_bounds_is_no_rival():
    wide = {"aupimo_bounds": (1e-4, 1e-3)}
    values = [("a", 0.6, {}), ("b", 0.5, {}), ("c", 0.9, wide), ("d", 0.8, wide)]
    runs = [run(backbone=name, figures={"aupimo": value}, **bounds) for name, value, bounds in values]
    board = leaderboard(runs)
    best = best_values(board, ["aupimo", "image_auroc"])
    assert {board["backbone"][number] for number, name in best if name == "aupimo"} == {"a", "c"}
    assert {board["backbone"][number] for number, name in best if name == "image_auroc"} == {"a", "b", "c", "d"}
    alone = leaderboard([runs[0], runs[2]])
    assert best_values(alone, ["aupimo"]) == set()
