"""Settings as people write them, and the runs that come of them."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path

import pytest

from padim_zoo import registry
from padim_zoo.backbones.backbone import Backbone
from padim_zoo.bench.plan import groups, make_plan
from padim_zoo.bench.readers import split
from padim_zoo.bench.specs import canonical_estimator, canonical_spec, check_settings_apply, value_for
from padim_zoo.bench.suite import Suite, read_settings
from padim_zoo.core.errors import InputError
from padim_zoo.data.sample import choose


def test_commas_inside_parentheses_do_not_split():
    assert split("full, shrinkage(0.1, epsilon=0),,oas") == ["full", "shrinkage(0.1, epsilon=0)", "oas"]


def test_equal_specs_have_one_spelling():
    assert canonical_spec(" shrinkage( .10,epsilon=0 )") == canonical_spec("shrinkage(0.1, epsilon=0)")
    assert canonical_spec("full()") == "full"
    assert {canonical_estimator(spec) for spec in ("full", "full()", "full(0.01)", "full(epsilon=0.01)")} == {"full"}
    shrinkage_intensity = {
        canonical_estimator(spec) for spec in ("shrinkage(.2)", "shrinkage(shrinkage_intensity=0.2, epsilon=0.010)")
    }
    assert shrinkage_intensity == {"shrinkage(shrinkage_intensity=0.2)"}
    assert canonical_estimator("shrinkage(1, 0)") == canonical_estimator(
        "shrinkage(epsilon=0.0, shrinkage_intensity=1.0)"
    )


def test_an_estimator_that_does_not_tell_its_parameters_keeps_its_text(monkeypatch):
    monkeypatch.setattr(registry.estimators, "_entries", dict(registry.estimators._entries))

    @registry.estimators.register("secretive")
    class Secretive:
        def __init__(self, power=1):
            self.squared = power**2

    assert canonical_estimator("secretive( 2)") == "secretive(2)"


def test_settings_of_one_backbone_beat_those_of_all():
    settings = ["default", "resnet18=a/b.pth", "timm/*=none", "resnet18=c=d.pth"]
    assert value_for("resnet18", settings) == "c=d.pth"
    assert value_for("timm/vit", settings) == "none"
    assert value_for("resnet50", settings) == "default"
    assert value_for("resnet50", []) is None
    with pytest.raises(InputError, match="resnet81=x"):
        check_settings_apply("weights", ["resnet81=x"], ["resnet18"])


def test_a_file_whose_name_has_an_equals_sign_is_for_all(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("epoch=3.pth").touch()
    assert value_for("resnet18", ["epoch=3.pth"]) == "epoch=3.pth"


def test_yaml_and_text_give_the_same_suite(tmp_path):
    file = tmp_path / "suite.yaml"
    file.write_text(
        "backbones: [resnet18, wide_resnet50_2]\nestimators: full,shrinkage(0.1, epsilon=0)\ndata-root: data\n"
        "folds: 5\nseeds: [0, 1]\nensemble: resnet18+wide_resnet50_2\nweights: {resnet18: a.pth}\n"
        "layers: {resnet18: [layer1, layer2]}\ncrop: none\nresize: [256, 320]\nsigma: 0\nplugin: p.py\nlayers: [a, b]\n"
    )
    text = {
        "backbones": "resnet18,wide_resnet50_2",
        "estimators": "full,shrinkage(0.1, epsilon=0)",
        "data_root": "data",
        "folds": "5",
        "seeds": "0,1",
        "ensemble": ("resnet18+wide_resnet50_2",),
        "weights": ("resnet18=a.pth",),
        "crop": "none",
        "resize": "256x320",
        "sigma": "0",
        "plugin": ("p.py",),
        "layers": ("a,b",),
    }
    assert Suite.from_settings(read_settings(file)) == Suite.from_settings(text)
    assert Suite.from_settings(read_settings(file), {"folds": "3"}).folds == 3
    assert Suite.from_settings({"layers": {"resnet18": ["a", "b"]}}) == Suite.from_settings(
        {"layers": ("resnet18=a,b",)}
    )


def test_an_empty_file_is_the_default_suite(tmp_path):
    (tmp_path / "suite.yaml").write_text("# nothing yet\ndata_root:\n")
    assert Suite.from_settings(read_settings(tmp_path / "suite.yaml")) == Suite()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"bakbones": "a"}, "unknown setting 'bakbones': did you mean backbones"),
        ({"folds": "five"}, "folds is 'five': expected an integer"),
        ({"folds": 2.5}, "folds is 2.5"),
        ({"folds": True}, "folds is True"),
        ({"folds": 0}, "folds is 0: expected 1 or more"),
        ({"jobs": -1}, "jobs is -1"),
        ({"cache": "maybe"}, "cache is 'maybe': expected true or false"),
        ({"cache": 1}, "cache is 1: expected true or false"),
        ({"seeds": "0,x"}, "seeds is 'x'"),
        ({"seeds": "-1"}, "seeds is -1: expected 0 or more"),
        ({"seeds": []}, "seeds is empty"),
        ({"estimators": ","}, "estimators is empty"),
        ({"backbones": {"a": 1}}, "expected text or a list"),
        ({"sigma": "wide"}, "sigma is 'wide': expected a number"),
        ({"sigma": "nan"}, "sigma is nan"),
        ({"sigma": -1}, "sigma is -1"),
        ({"crop": "big"}, "cannot read the size 'big'"),
        ({"crop": 0}, "crop is 0"),
        ({"data_root": 3}, "data_root is 3: expected text"),
        ({"reduction": "pca"}, "expected leading, random or orthogonal"),
        ({"rule": "sum"}, "expected mean, max or rank"),
    ],
)
def test_bad_settings_are_one_line(settings, message):
    with pytest.raises(InputError) as error:
        Suite.from_settings(settings)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", ["- a\n- b\n", "a: [1", "a: b: c", "text"])
def test_a_file_that_is_no_mapping_is_named(tmp_path, content):
    (tmp_path / "suite.yaml").write_text(content)
    with pytest.raises(InputError, match=r"suite\.yaml") as error:
        read_settings(tmp_path / "suite.yaml")
    assert "\n" not in str(error.value)


def test_names_and_wildcards_choose_categories():
    names = ["bottle", "cable", "capsule"]
    assert choose(names, [], "category") == names
    assert choose(names, ["ca*", "bottle"], "category") == names
    assert choose(names, ["cable"], "category") == ["cable"]
    with pytest.raises(InputError, match="unknown category 'botle': did you mean bottle"):
        choose(names, ["botle"], "category")


def test_the_grid_is_complete_and_grouped(suite):
    plan = make_plan(
        suite.replace(
            backbones=("toy-*",),
            estimators=("full", "shrinkage(0.1, epsilon=0)", "shrinkage(.1,epsilon=0)"),
            categories=(),
            seeds=(0, 1),
        )
    )
    assert len(plan) == len({run.id for run in plan}) == 2 * 2 * 2 * 2
    assert [len(group) for group in groups(plan.runs)] == [4] * 4


def ids(suite: Suite, **changes) -> list[str]:
    return [run.id for run in make_plan(suite.replace(**changes))]


def test_ids_go_by_the_precision_that_is_asked_for_and_not_by_the_machine(suite, fast_bfloat16):
    suite = suite.replace(backbones=("builtin",), detectors=("padim",), resize=32, device="cpu")
    found = []
    for fast in (False, True):
        fast_bfloat16(fast)
        found.append([ids(suite, precision=precision) for precision in ("float32", "bfloat16", "auto")])
        assert ids(suite) == found[-1][2]
    assert found[0] == found[1]
    assert len({run for ids in found[0] for run in ids}) == sum(map(len, found[0]))
    with pytest.raises(InputError, match="precision is 'double': expected float32, bfloat16 or auto"):
        make_plan(suite.replace(precision="double"))


def test_planning_makes_each_backbone_once_and_neither_copies_nor_runs_it(suite, fast_bfloat16, monkeypatch):
    fast_bfloat16(True)
    made, create = [], registry.backbones.create

    def note(name, **options):
        made.append(options["layers"])
        return create(name, **options)

    monkeypatch.setattr(registry.backbones, "create", note)
    for name in ("in_precision", "forward", "to"):
        monkeypatch.setattr(Backbone, name, lambda *_: pytest.fail("a plan only looks at backbones"))
    monkeypatch.setattr(copy, "deepcopy", lambda *_: pytest.fail("a plan copies nothing"))
    grid = {"backbones": ("builtin",), "detectors": ("padim", "patchcore", "padim(pad_mode='reflect')")}
    plan = make_plan(suite.replace(**grid, estimators=("full", "tied"), seeds=(0, 1), device="cpu"))
    assert len(plan) == 2 + 2 * 1 + 2  # a coreset alone is drawn
    assert made == [None]
    made.clear()
    make_plan(suite.replace(backbones=("builtin",), detectors=("padim", "mahalanobis-ad"), seeds=(0, 1)))
    assert len(made) == len(set(made)) <= 2


def test_ids_depend_on_what_decides_figures_alone(suite, images, toys, tmp_path):
    same = ids(suite)
    for changes in (
        {"batch_size": 1},
        {"jobs": 3},
        {"cache": False},
        {"output": tmp_path},
        {"device": "cuda"},
        {"sigma": 1.0},
        {"precision": "bfloat16"},
    ):
        assert ids(suite, **changes) == same, changes  # a toy takes neither sigma nor precision
    moved = tmp_path / "elsewhere"
    shutil.copytree(images, moved, copy_function=shutil.copy)  # with new times
    assert ids(suite, data_root=moved) == same
    others = [
        ids(suite, **changes)
        for changes in (
            {"seeds": (1,)},
            {"folds": 2},
            {"resize": 8},
            {"crop": 8},
            {"estimators": ("tied",)},
            {"backbones": ("toy-square",)},
            {"detectors": ("scores-only",)},
            {"weights": ("none",)},
            {"layers": ("other",)},
            {"categories": ("beta",)},
        )
    ]
    shutil.copy(moved / "alpha" / "test" / "good" / "001.png", moved / "alpha" / "test" / "good" / "000.png")
    others.append(ids(suite, data_root=moved))
    assert len({*map(tuple, others), tuple(same)}) == len(others) + 1


def test_ensembles_bring_their_members(suite):
    options = {"detectors": ("padim",), "backbones": (), "estimators": ("full",)}
    *single, ensemble = make_plan(suite.replace(**options, ensemble=("builtin+scattering:diagonal",)))
    assert {(run.config.backbone, run.config.estimator) for run in single} == {
        ("builtin", "full"),
        ("scattering", "full"),
        ("scattering", "diagonal"),
    }
    assert ensemble.config.backbone == "builtin+scattering"
    assert ensemble.config.estimator == "full+diagonal"
    assert ensemble.config.folds == 1
    members = [{name: member.get(name) for name in ("backbone", "estimator")} for member in ensemble.config.members]
    assert members == [
        {"backbone": "builtin", "estimator": "full"},
        {"backbone": "scattering", "estimator": "diagonal"},
    ]


def test_an_ensemble_without_an_estimator_is_one_for_each(suite):
    suite = suite.replace(detectors=("padim",), backbones=("builtin",), estimators=("full", "tied"))
    plan = make_plan(suite.replace(ensemble=("builtin+scattering",)))
    assert [run.config.estimator for run in plan if run.members] == ["full", "tied"]
    fixed = make_plan(suite.replace(ensemble=("builtin:oas+scattering:oas",)))
    assert [run.config.estimator for run in fixed if run.members] == ["oas"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"backbones": ("toy-linar",)}, "did you mean toy-linear"),
        ({"backbones": ("toys-*",)}, "no backbone matches"),
        ({"estimators": ("ful",)}, "did you mean full"),
        ({"estimators": ("shrinkage(0.1, what=2)",)}, "shrinkage"),
        ({"detectors": ("tyo",)}, "unknown detector 'tyo'"),
        ({"dataset": "mvtecc"}, "did you mean mvtec"),
        ({"categories": ("alpah",)}, "did you mean alpha"),
        ({"data_root": Path("nowhere")}, "nowhere"),
        ({"data_root": None}, "mvtec"),
        ({"weights": ("toy-square=none",)}, "toy-square=none"),
        ({"layers": ("toy-square=a",)}, "toy-square=a"),
        ({"ensemble": ("toy-linear",)}, "expected two or more that differ"),
        ({"ensemble": ("toy-linear+toy-linear",)}, "expected two or more that differ"),
        ({"ensemble": ("toy-linear+toy-cube",)}, "unknown backbone 'toy-cube'"),
        ({"ensemble": ("toy-linear+toy-square:ful",)}, "did you mean full"),
        ({"normal": Path("here")}, "belong to the dataset folder"),
    ],
)
def test_mistakes_are_found_before_the_first_run(suite, changes, message):
    with pytest.raises(InputError) as error:
        make_plan(suite.replace(**changes))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("toy(resize=81)", "sets resize, which is for the whole suite: use --resize"),
        ("toy(seed=3)", "sets seed, which is for the whole suite: use --seeds"),
        ("toy('toy-square')", "sets backbone, which is for the whole suite: use --backbones"),
        ("padim(n_components=5)", "sets n_components, which is for the whole suite: use --n-components"),
        ("padim(batch_size=5)", "sets batch_size, which is for the whole suite: use --batch-size"),
        ("padim(what=5)", "has no parameter 'what': expected backbone, estimator, weights,"),
    ],
)
def test_the_spec_of_a_detector_leaves_the_settings_of_the_suite(suite, spec, message):
    with pytest.raises(InputError) as error:
        make_plan(suite.replace(detectors=(spec,)))
    assert message in str(error.value)


def test_more_dimensions_than_channels_are_refused_before_any_run(suite):
    grid = suite.replace(backbones=("builtin",), detectors=("padim",))
    with pytest.raises(InputError, match=r"n_components is 500, .* of builtin have \d+ channels"):
        make_plan(grid.replace(n_components=500))
    assert [run.config.n_components for run in make_plan(grid.replace(n_components=7))] == [7]


def test_reduce_is_part_of_a_run_of_a_detector_that_takes_it(suite):
    grid = suite.replace(backbones=("builtin",), detectors=("padim", "toy"))
    plans = [make_plan(grid.replace(reduction=kind)).runs for kind in ("random", "orthogonal")]
    assert [[run.config.reduction for run in runs] for runs in plans] == [["random", None], ["orthogonal", None]]
    assert plans[0][0].id != plans[1][0].id
    assert plans[0][1].id == plans[1][1].id


def test_the_code_of_plugins_is_part_of_a_run(suite, tmp_path):
    def write(text):
        (tmp_path / "one.py").write_text(text)

    def config(**changes):
        grid = suite.replace(plugin=(tmp_path / "one.py",), backbones=("builtin",), detectors=("padim",), **changes)
        grid.load_plugins()
        [run] = make_plan(grid)
        return run.config

    body = "from padim_zoo import registry\nfrom padim_zoo.estimators.linear_shrinkage import Full\n"
    write(body + "registry.estimators.register('mine')(Full)\n")
    first = config(estimators=("mine",))
    write(body + "registry.estimators.register('mine')(Full)  # changed\n")
    second = config(estimators=("mine",))
    own = config()
    write(body + "registry.estimators.register('mine')(Full)  # changed again\n")
    assert [len(config.plugins) for config in (first, second, own)] == [1, 1, 0]
    assert first.plugins != second.plugins
    assert first.id != second.id
    assert config() == own


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_shards_are_a_partition_of_the_plan(suite: Suite, count: int) -> None:
    suite = suite.replace(categories=(), backbones=("toy-*",), estimators=("full", "tied"), seeds=(0, 1, 2))
    whole = [run.id for run in make_plan(suite)]
    shards = [[run.id for run in make_plan(suite.replace(shard=f"{k}/{count}"))] for k in range(1, count + 1)]
    assert sorted(run_id for shard in shards for run_id in shard) == sorted(whole)
    assert max(map(len, shards)) - min(map(len, shards)) <= 6
    assert shards[0] == [run.id for run in make_plan(suite.replace(shard=f"1/{count}"))]


def test_a_shard_without_runs_says_so(suite: Suite) -> None:
    full = suite.replace(estimators=("full",))
    plans = [make_plan(full.replace(shard=f"{number}/50")) for number in range(1, 51)]
    assert any(plan.runs for plan in plans)
    for plan in plans:
        assert any("has no runs: the plan has fewer parts than shards" in note for note in plan.notes) == (
            not plan.runs
        )


@pytest.mark.parametrize("text", ["0/3", "4/3", "1", "1/0", "a/b"])
def test_what_is_no_shard_is_refused(suite: Suite, text: str) -> None:
    with pytest.raises(InputError, match="expected one of several parts, such as 3/16"):
        suite.replace(shard=text)
