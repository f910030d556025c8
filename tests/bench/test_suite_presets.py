"""Suites that come with the package, and differences to published figures."""

from __future__ import annotations

from pathlib import Path

import pytest

from padim_zoo import InputError
from padim_zoo.bench.leaderboard import _frame, columns
from padim_zoo.bench.published import add_published
from padim_zoo.bench.suite import Suite, preset_settings, read_settings


def test_the_suite_of_the_papers_is_that_of_the_published_tables():
    suite = Suite.from_settings(preset_settings("paper"), {"data_root": "somewhere"})
    assert suite.dataset_name == "mvtec"
    assert suite.backbones == ("resnet18", "wide_resnet50_2")
    assert suite.detectors == ("padim", "patchcore", "spade")
    assert (suite.mask_resize, Suite().mask_resize) == ("nearest", "area")
    assert (suite.resize, suite.crop, suite.sigma, suite.reduction) == (256, 224, 4.0, "random")


def test_an_unknown_suite_is_refused():
    with pytest.raises(InputError, match="unknown suite 'papers': expected paper"):
        preset_settings("papers")


def test_differences_are_measured_less_published():
    row = {
        **dict.fromkeys((column.name for column in columns()), None),
        "dataset": "mvtec",
        "category": "carpet",
        "detector": "padim",
        "backbone": "resnet18",
        "weights": "default",
        "estimator": "full",
        "layers": "layer1,layer2,layer3",
        "reduction": "random",
        "n_components": 100,
        "seed": 0,
        "folds": 1,
        "resize": "256",
        "crop": "224",
        "sigma": "4",
        "precision": "float32",
        "id": "0",
        "status": "done",
        "image_auroc": 0.5,
        "pixel_auroc": 0.75,
    }
    [found] = add_published(_frame([row])).to_dict("records")
    assert found["published_pixel_auroc"] > 0.9
    assert found["difference_pixel_auroc"] == pytest.approx(0.75 - found["published_pixel_auroc"])
    assert found["difference_image_auroc"] == pytest.approx(0.5 - found["published_image_auroc"])
    assert found["difference_aupro"] != found["difference_aupro"]  # nothing was measured


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seeds: " + 1000 * "[", "nests too deeply"),
        (
            "a: &a [1,1,1,1,1,1,1,1,1]\n"
            + "".join(f"{b}: &{b} [{','.join(9 * ['*' + a])}]\n" for a, b in zip("abcdefg", "bcdefgh", strict=True)),
            "over 10,000 values",
        ),
        ("seeds: 2026-99-99", "is not YAML"),
    ],
)
def test_a_suite_that_is_made_to_harm_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "suite.yaml").write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        read_settings(tmp_path / "suite.yaml")
    assert len(str(caught.value).splitlines()) == 1
