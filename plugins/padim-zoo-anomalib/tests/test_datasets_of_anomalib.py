"""anomalib's data modules list what padim-zoo lists of the same folder."""

from __future__ import annotations

import pytest

from padim_zoo.plugin import InputError, datasets


def test_mvtec_is_the_same_by_both(images):
    theirs = datasets.create("anomalib/MVTecAD", root=images)
    ours = datasets.create("mvtec", root=images)
    assert theirs.categories() == ours.categories() == ["gear"]
    for split in ("train", "test"):
        found = {sample.path: sample for sample in getattr(theirs.load("gear"), split)}
        expected = {sample.path: sample for sample in getattr(ours.load("gear"), split)}
        assert found == expected


def test_folder(images):
    spec = "anomalib/Folder(normal_dir='train/good', abnormal_dir='test/crack', normal_test_dir='test/good')"
    category = datasets.create(spec, root=images / "gear").load("gear")
    assert len(category.train) == 10
    assert [sample.label for sample in category.test].count(0) == 3
    assert [sample.label for sample in category.test].count(1) == 1


def test_bad_input_is_told_in_a_line(images, tmp_path):
    with pytest.raises(InputError, match="needs its folder"):
        datasets.create("anomalib/MVTecAD")
    with pytest.raises(InputError, match="no argument 'color'"):
        datasets.create("anomalib/MVTecAD(color='red')", root=images)
    with pytest.raises(InputError, match="cannot list"):
        datasets.create("anomalib/Folder(normal_dir='nowhere')", root=images).load(images.name)
    with pytest.raises(InputError, match="no folders"):
        datasets.create("anomalib/MVTecAD", root=tmp_path)
    with pytest.raises(InputError, match="has no category 'cog'"):
        datasets.create("anomalib/MVTecAD", root=images).load("cog")
