from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from padim_zoo import registry
from padim_zoo.core.errors import InputError
from padim_zoo.registry import PluginWarning, Registry, load_plugin, parse_spec


@pytest.fixture
def shapes() -> Registry[Any]:
    """A registry of its own kind, whose group no distribution knows."""
    made: Registry[Any] = Registry("shape", [])

    @made.register("circle", source="package", corners=0)
    def circle(radius: float = 1.0, *, color: str = "red") -> tuple[str, float, str]:
        """Round.

        And more.
        """
        return "circle", radius, color

    @made.register("square", source="package", summary="Four corners")
    class Square:
        def __init__(self, side: float) -> None:
            self.side = side

    made.register_family(
        "polygon/",
        lambda corners, color="red": (f"polygon {corners}", color),
        names=lambda: ["three", "four"],
        describe=lambda corners: {"corners": {"three": 3, "four": 4}[corners]},
        summary="straight sides",
    )
    return made


# -- names ---------------------------------------------------------------------------------------------------------


def test_decorator_leaves_the_factory_as_it_is(shapes: Registry[Any]) -> None:
    entry = shapes.entry("circle")
    assert entry.factory() == ("circle", 1.0, "red")
    assert (entry.summary, entry.source, entry.metadata) == ("Round.", "package", {"corners": 0})
    assert shapes.entry("square").summary == "Four corners"


def test_source_is_the_module_unless_told(shapes: Registry[Any]) -> None:
    shapes.register("line")(lambda: None)
    assert shapes.entry("line").source == __name__


def test_metadata_can_be_found_when_asked_for(shapes: Registry[Any]) -> None:
    corners = iter([3, 4])
    shapes.register("any", describe=lambda: {"corners": next(corners)})(lambda: None)
    assert shapes.entry("any").metadata == {"corners": 3}
    assert shapes.entry("any").metadata == {"corners": 4}


@pytest.mark.parametrize("name", ["", "a b", "/a", "a/", "a(1)", "-a", "a*"])
def test_names_that_a_spec_could_not_hold_are_refused(shapes: Registry[Any], name: str) -> None:
    with pytest.raises(InputError, match="cannot name a shape"):
        shapes.register(name)


def test_replacing_from_elsewhere_is_told_and_done(shapes: Registry[Any]) -> None:
    with pytest.warns(PluginWarning, match="the shape 'circle' of package is replaced by that of plugin mine.py"):
        shapes.register("circle", source="plugin mine.py")(lambda: "mine")
    assert shapes.create("circle") == "mine"
    shapes.register("circle", source="plugin mine.py")(
        lambda: "mine, edited"
    )  # the suite turns a warning into an error
    assert shapes.create("circle") == "mine, edited"


def test_wildcards(shapes: Registry[Any]) -> None:
    assert shapes.names() == ["circle", "square"]
    assert shapes.names("*r*") == ["circle", "square"]
    assert shapes.names("c*") == ["circle"]
    assert shapes.names("polygon/*") == ["polygon/four", "polygon/three"]
    assert shapes.names("polygon/t*") == ["polygon/three"]
    assert shapes.names("nothing*") == []


def test_resolve_keeps_order_and_drops_repetitions(shapes: Registry[Any]) -> None:
    specs = ["square(side=2)", "c*", "circle", "polygon/f*", "polygon/four"]
    assert shapes.resolve(specs) == ["square(side=2)", "circle", "polygon/four"]
    with pytest.raises(InputError, match="no shape matches 'x\\*': padim-zoo list shapes shows them all"):
        shapes.resolve(["circle", "x*"])
    with pytest.raises(InputError, match="unknown shape 'cube'"):
        shapes.resolve(["cube(1)"])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("circel", "did you mean circle?"),
        ("SQUARE", "did you mean square?"),
        ("polygon/thre", "did you mean polygon/three"),
        ("zzzzzz", "expected one of circle, square"),
        ("polygon/", "unknown shape 'polygon/'"),
    ],
)
def test_unknown_names_bring_the_closest(shapes: Registry[Any], name: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        shapes.create(name)
    assert message in str(caught.value)
    assert "padim-zoo list shapes shows all" in str(caught.value)


# -- specs -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "parsed"),
    [
        ("full", ("full", [], {})),
        (" shrinkage( 0.2 ) ", ("shrinkage", [0.2], {})),
        ("shrinkage(0.2, epsilon=1e-3)", ("shrinkage", [0.2], {"epsilon": 1e-3})),
        ("a(-1, 'x', b=(1, 2), c=None)", ("a", [-1, "x"], {"b": (1, 2), "c": None})),
        ("timm/resnet18.a1_in1k", ("timm/resnet18.a1_in1k", [], {})),
        ("a()", ("a", [], {})),
    ],
)
def test_parse_spec(spec: str, parsed: tuple[str, list[Any], dict[str, Any]]) -> None:
    assert parse_spec(spec) == parsed


@pytest.mark.parametrize(
    "spec",
    ["", "(1)", "a(", "a)", "a(1", "a(b)", "a(1)(2)", "a(__import__('os'))", "a(*[1])", "a(**{'b': 1})", "a(1);b"],
)
def test_specs_that_cannot_be_read(spec: str) -> None:
    with pytest.raises(InputError, match="cannot read"):
        parse_spec(spec)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("a(register=rigid)", "write register='rigid'$"),
        ("a(1, b=p-value, c=None)", "write b='p-value'$"),
        ("a(b=None, c=d.e)", "write c='d.e'$"),
        ("a(rigid)", "write 'rigid'$"),
        ("a(b=nan)", "expected a number, and nan is none$"),
        ("a(1%)", "write 0.01 for 1%$"),
        ("a(b='50%', c=nan)", "expected a number, and nan is none$"),
        ("a(*[1])", "expected numbers or quoted text, name=value$"),
        ("a(b=2, c=1, b=1)", r"'a\(b=2, c=1, b=1\)' gives b twice: leave out one$"),
    ],
)
def test_what_to_write_instead_is_said(spec: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_spec(spec)


def test_create_with_arguments(shapes: Registry[Any]) -> None:
    assert shapes.create("circle(2)", color="blue") == ("circle", 2, "blue")
    assert shapes.create("circle(color='green')", color="blue") == ("circle", 1.0, "green")
    assert shapes.create("square(side=3)").side == 3
    assert shapes.create("polygon/four", color="blue") == ("polygon four", "blue")
    assert shapes.entry("polygon/four").metadata == {"corners": 4}
    assert shapes.entry("polygon/four").source == "polygon"


@pytest.mark.parametrize("spec", ["circle(1, 2)", "circle(size=2)", "square", "polygon/four(sides=2)"])
def test_arguments_that_do_not_fit_are_a_mistake(shapes: Registry[Any], spec: str) -> None:
    words = r": .*(argument|takes)| has no parameter '\w+': expected | has too many values without a name"
    with pytest.raises(InputError, match=f"shape '.*'({words})"):
        shapes.create(spec)


def test_errors_from_within_a_factory_are_not_hidden(shapes: Registry[Any]) -> None:
    @shapes.register("broken")
    def broken() -> int:
        return len(3)  # type: ignore[arg-type]

    with pytest.raises(TypeError, match="has no len"):
        shapes.create("broken")


# -- plugins ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def distribution(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed distribution with one good and two bad plugins."""
    info = tmp_path / "corners-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: corners\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[padim_zoo.shapes]\n"
        "half = corners_half\n"
        "missing = corners_missing\n"
        "module = corners_module\n"
        "triangle = corners_good:triangle\n"
    )
    (tmp_path / "corners_good.py").write_text('def triangle():\n    """Three corners."""\n    return 3\n')
    (tmp_path / "corners_module.py").write_text("from test_shapes import shapes\nshapes.register('star')(lambda: 5)\n")
    (tmp_path / "corners_half.py").write_text(
        "from test_shapes import shapes\nshapes.register('half')(lambda: 5)\nraise RuntimeError('out of\\ncorners')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_entry_points(distribution: Path, shapes: Registry[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "test_shapes", type("module", (), {"shapes": shapes}))
    for name in ("good", "half", "module"):
        monkeypatch.delitem(sys.modules, f"corners_{name}", raising=False)
    with pytest.warns(PluginWarning) as warned:
        names = shapes.names()
    assert names == ["circle", "square", "star", "triangle"]
    assert shapes.entry("triangle").source == shapes.entry("star").source == "plugin corners"
    assert shapes.create("triangle") == 3
    assert shapes.problems == {
        "half of corners": "RuntimeError: out of corners",
        "missing of corners": "ModuleNotFoundError: No module named 'corners_missing'",
    }
    assert len(warned) == 2
    assert "is left out" in str(warned[0].message)
    with pytest.raises(InputError, match="the plugin half of corners failed to load"):
        shapes.create("half-circle")


@pytest.fixture
def restored() -> Iterator[None]:
    """Registries as they were before the test."""
    for one in registry.REGISTRIES.values():
        one.names()
    before = {name: (dict(one._entries), dict(one._families)) for name, one in registry.REGISTRIES.items()}
    yield
    for name, one in registry.REGISTRIES.items():
        one._entries, one._families = before[name]


PLUGIN = """
from padim_zoo.registry import backbones, datasets, estimators

@estimators.register("mine")
def estimator():
    return "estimator"

@datasets.register("mine")
def dataset(root=None):
    return "dataset"

backbones.register_family("mine/", lambda name: name, names=lambda: ["a", "b"])
"""


@pytest.mark.usefixtures("restored")
def test_plugin_file_reaches_all_registries_and_may_be_loaded_again(tmp_path: Path) -> None:
    path = tmp_path / "my plugin.py"
    path.write_text(PLUGIN)
    for _ in range(2):
        load_plugin(path)
        assert registry.estimators.create("mine") == "estimator"
        assert registry.datasets.create("mine") == "dataset"
        assert registry.backbones.names("mine/*") == ["mine/a", "mine/b"]
    assert registry.estimators.entry("mine").source == "plugin my plugin.py"
    registry.estimators.register("later")(lambda: None)
    assert registry.estimators.entry("later").source == __name__


@pytest.mark.usefixtures("restored")
@pytest.mark.parametrize(
    ("ending", "reason"),
    [("1 / 0", "ZeroDivisionError: division by zero"), ("def", "SyntaxError: "), ("import nope_", "No module")],
)
def test_plugin_file_with_an_error_registers_nothing(tmp_path: Path, ending: str, reason: str) -> None:
    path = tmp_path / "broken.py"
    path.write_text(f"{PLUGIN}\n{ending}\n")
    with pytest.raises(InputError, match=r"broken\.py failed to load: ") as caught:
        load_plugin(path)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "mine" not in registry.estimators.names()
    assert "padim_zoo_plugin_broken" not in sys.modules


@pytest.mark.usefixtures("restored")
def test_plugin_file_that_exits_is_a_mistake(tmp_path: Path) -> None:
    path = tmp_path / "leaving.py"
    path.write_text(f"{PLUGIN}\nraise SystemExit(0)\n")
    with pytest.raises(InputError, match=r"leaving\.py failed to load: SystemExit: 0"):
        load_plugin(path)
    assert "mine" not in registry.estimators.names()


@pytest.mark.usefixtures("restored")
def test_a_failed_plugin_gives_back_the_names_it_replaced(tmp_path: Path) -> None:
    path = tmp_path / "broken.py"
    path.write_text(
        "from padim_zoo.registry import estimators\nestimators.register('full')(str)\n"
        "estimators.register('full')(int)\n1 / 0"
    )
    before = registry.estimators.entry("full")
    with pytest.warns(PluginWarning, match="is replaced"), pytest.raises(InputError):
        load_plugin(path)
    assert registry.estimators.entry("full") is before


@pytest.mark.usefixtures("restored")
@pytest.mark.parametrize("ending", ["1 / 0", "raise SystemExit"])
def test_an_entry_point_that_fails_leaves_nothing_in_any_registry(
    tmp_path: Path, shapes: Registry[Any], monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    info = tmp_path / "edges-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: edges\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[padim_zoo.shapes]\nedge = edges\n")
    (tmp_path / "edges.py").write_text(f"{PLUGIN}\n{ending}\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.warns(PluginWarning, match="edge of edges failed to load"):
        assert shapes.names() == ["circle", "square"]
    assert "mine" not in registry.estimators.names()
    assert "mine" not in registry.datasets.names()
    assert [family.prefix for family in registry.backbones.families() if family.prefix == "mine/"] == []


def test_a_plugin_that_is_imported_before_its_entry_point_is_loaded_is_known_as_one(
    shapes: Registry[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = tmp_path / "early-2.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: early\nVersion: 2.1\n")
    (info / "entry_points.txt").write_text("[padim_zoo.shapes]\nearly = early_shapes\n")
    (tmp_path / "early_shapes.py").write_text(
        "from functools import partial\nfrom test_shapes import shapes\ndef make(corners):\n    return corners\n"
        "shapes.register('pentagon')(make)\nshapes.register('hexagon')(partial(make, 6))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(sys.modules, "test_shapes", type(sys)("test_shapes"))
    sys.modules["test_shapes"].shapes = shapes  # type: ignore[attr-defined]
    monkeypatch.delitem(sys.modules, "early_shapes", raising=False)
    __import__("early_shapes")
    for name in ("pentagon", "hexagon"):
        assert (shapes.entry(name).source, shapes.entry(name).code) == ("plugin early", "early 2.1")
    assert shapes.entry("circle").source == "package"


def test_threads_that_come_first_together_see_the_same_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "slow_shapes.py").write_text(
        "import time\nfrom test_shapes import shapes\ntime.sleep(0.1)\nshapes.register('circle')(lambda: 1)\n"
    )
    slow: Registry[Any] = Registry("shape", ["slow_shapes"])
    monkeypatch.setitem(sys.modules, "test_shapes", type("module", (), {"shapes": slow}))
    monkeypatch.delitem(sys.modules, "slow_shapes", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    start = threading.Barrier(4)

    def first_use(_: int) -> list[str]:
        start.wait()
        return slow.names()

    with ThreadPoolExecutor(4) as executor:
        assert list(executor.map(first_use, range(4))) == [["circle"]] * 4


def test_plugin_that_is_no_python_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a file"):
        load_plugin(tmp_path)
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(InputError, match="is not a Python file"):
        load_plugin(tmp_path / "notes.txt")


def test_importing_the_registry_is_cheap() -> None:
    code = "import sys, padim_zoo.registry; print(*{'torch', 'pandas', 'numpy', 'timm'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == ""


def test_a_plugin_whose_factory_fails_is_named_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry.estimators.names()
    monkeypatch.setattr(registry.estimators, "_entries", dict(registry.estimators._entries))
    plugin = tmp_path / "boom.py"
    plugin.write_text(
        "from padim_zoo.registry import estimators\n"
        "@estimators.register('boom')\n"
        "def boom():\n    raise RuntimeError('no\\nnetwork')\n"
    )
    load_plugin(plugin)
    with pytest.raises(
        InputError, match=r"estimator 'boom' of plugin boom.py cannot be made .RuntimeError: no network"
    ):
        registry.estimators.create("boom")
