"""All settings: one row for each, of which everything that knows settings is made.

That is the options of all commands, the reader of YAML, :class:`~padim_zoo.bench.suite.Suite`, the configuration and
the id of a run, columns of the leaderboard, the names of rows in ``check``, and the command that the report prints.
Defaults are literals here, or in :mod:`padim_zoo.detectors.config` where detectors have them too.

Nothing heavy is imported here, so that help is fast.
"""

from __future__ import annotations

from pathlib import Path

from padim_zoo.bench.readers import (
    PROTOCOL,
    at_least,
    bands,
    cluster,
    colormap,
    corruptions,
    device,
    map_score,
    memory,
    names,
    number,
    one_of,
    operations,
    path,
    pattern,
    rate,
    rising_rates,
    shard,
    share,
    share_of_defects,
    share_of_patches,
    share_to_trim,
    size_or_protocol,
    switch,
    text,
    tiles,
)
from padim_zoo.bench.setting import Setting, Unset
from padim_zoo.core.cache_folder import refuse_bad_variables
from padim_zoo.core.precision import AUTO as AUTO_PRECISION
from padim_zoo.core.precision import PRECISIONS, asked_precision
from padim_zoo.data.pixel_limit import resolve_max_pixels
from padim_zoo.detectors.config import (
    DECIDES,
    ENSEMBLE_RULES,
    FALSE_ALARM_RATE,
    MAP_VALUES,
    PASSES,
    REGION_AREAS,
    EnsembleConfig,
    PaDiMConfig,
)
from padim_zoo.pictures.kinds import PICTURES, PictureChoice
from padim_zoo.runtimes.runtime import AUTO, NAMES, TORCH, resolve_runtime

_FIT = ("bench", "fit")
_DATA = (*_FIT, "evaluate")
_SCORE = (*_DATA, "predict")
_PICTURES = ("evaluate", "predict")
_WEIGHTS = (*_FIT, "finetune", "import", "data suspects")
_READ = (*_SCORE, "data check", "export", "finetune", "update", "forget", "data suspects")
_CHANGE = ("calibrate", "combine", "export", "finetune", "forget", "import", "merge", "update")
_COMPUTE = (*_SCORE, *_CHANGE, "data suspects")
_PLUGIN = (*_SCORE, *_CHANGE, "data suspects", "list")
_AS_THE_PROGRAM = {"import": Unset("as in the other program")}
_BACKBONES = Unset("the backbone's")

# fmt: off
_ROWS = (
    Setting("dataset", text, "Data set; see padim-zoo list datasets.", "Data",
            Unset("synthetic, or folder with --data-root"),
            defaults=dict.fromkeys(("fit", "evaluate", "finetune"), "folder"), commands=(*_DATA, "finetune"),
            recorded=True, column="text"),
    Setting("data_root", path, "Folder of the data set.", "Data", commands=(*_DATA, "finetune"), metavar="DIR"),
    Setting("categories", text, "Category of the data set; a list may hold wildcards.", "Data", Unset("all"),
            defaults=dict.fromkeys(("fit", "evaluate"), Unset("the only one")),
            commands=(*_DATA, "finetune", "plot"), lists_in=("bench", "finetune", "plot"), form="list", one="category",
            recorded=True, column="text"),
    Setting("normal", path, "Folder or glob of normal images, instead of --data-root.", "Data",
            commands=(*_DATA, "data check"), metavar="DIR"),
    Setting("abnormal", path, "Folder or glob of anomalous images, with --normal; subfolders name the defects.", "Data",
            commands=(*_DATA, "data check"), metavar="DIR"),
    Setting("masks", path, "Folder of masks with the names of the images in --abnormal.", "Data",
            commands=(*_DATA, "data check"), metavar="DIR"),
    Setting("skip_unreadable", switch, "Leave out images that cannot be read, and record which.", "Data", False,
            commands=(*_DATA, "finetune", "update", "data suspects"), form="flag"),

    Setting("detectors", text, "Detector; see padim-zoo list detectors.", default=("padim",),
            commands=(*_FIT, "data suspects"),
            form="list", one="detector", recorded=True, column="text"),
    Setting("backbones", text, "Backbone; see padim-zoo list backbones.",
            default=Unset("builtin, or those of --ensemble"),
            defaults={**dict.fromkeys(("fit", "finetune", "data suspects"), PaDiMConfig.backbone),
                      "import": Unset("by the number of dimensions")},
            commands=_WEIGHTS, form="list", one="backbone", recorded=True, parameter=True, column="text"),
    Setting("weights", text, "Weights of the backbone: default, none (random) or a file.",
            default=Unset(PaDiMConfig.weights),
            defaults={**dict.fromkeys(("fit", "finetune", "data suspects"), PaDiMConfig.weights),
                      "import": Unset("the file's, or default")},
            commands=_WEIGHTS, form="by backbone", metavar="W", parameter=True, column="text"),
    Setting("estimators", text, "Covariance estimator; see padim-zoo list estimators.",
            default=("full", "ledoit-wolf", "diagonal"),
            defaults=dict.fromkeys(("fit", "data suspects"), PaDiMConfig.estimator),
            commands=(*_FIT, "data suspects"), form="list", one="estimator", recorded=True, parameter=True,
            column="text"),
    Setting("layers", names, "Layers of the backbone.", default=_BACKBONES,
            defaults={"import": Unset("layer1,layer2,layer3")}, commands=_WEIGHTS, form="by backbone", metavar="L,L",
            recorded=True, parameter=True, column="text"),
    Setting("reduction", one_of("leading", "random", "orthogonal"),
            "How channels are reduced: leading, random or orthogonal.",
            default=_BACKBONES, commands=_FIT, metavar="HOW", recorded=True, parameter=True, column="text"),
    Setting("n_components", at_least(1), "Dimensions of a patch embedding.", default=_BACKBONES, commands=_FIT,
            metavar="N", recorded=True, parameter=True, column="integer"),
    Setting("ensemble", text, "BACKBONE[:ESTIMATOR]+BACKBONE[:ESTIMATOR].", form="repeated", metavar="A+B"),
    Setting("rule", one_of(*ENSEMBLE_RULES), "How members of an ensemble are combined: mean, max or rank.",
            default=EnsembleConfig.rule, commands=("bench", "combine")),

    Setting("resize", size_or_protocol,
            "Resize images to N (shorter side), HxW or none; protocol: as the data set says, else "
            f"{PaDiMConfig.resize}.",
            "Images", PROTOCOL, defaults=_AS_THE_PROGRAM,
            commands=_WEIGHTS, metavar="SIZE", none="none", recorded=True, parameter=True, column="text"),
    Setting("crop", size_or_protocol,
            "Crop the center: N, HxW or none; protocol: as the data set says, else none.", "Images", PROTOCOL,
            defaults=_AS_THE_PROGRAM,
            commands=_WEIGHTS, metavar="SIZE", none="none", recorded=True, parameter=True, column="text"),
    Setting("tiles", tiles,
            "Cut images into tiles, each an image of its own: 2x2, 2x2+64, or 512+64: at least 64 pixels overlap.",
            "Images", commands=_FIT, metavar="RxC|N+M", none="none", recorded=True, parameter=True, optional=True,
            column="text"),
    Setting("bit_depth", one_of("auto", "8", "10", "12", "14", "16"),
            "Bits that 16-bit samples use: auto, 8, 10, 12, 14 or 16.", "Images", PaDiMConfig.bit_depth,
            commands=_FIT, metavar="BITS", recorded=True, parameter=True, column="text"),
    Setting("mask_resize", one_of("area", "nearest"), "How masks are resized: area (any pixel covered) or nearest.",
            "Images", "area", commands=("bench", "evaluate"), metavar="RULE", recorded=True, column="text"),
    Setting("mask_orientation", one_of("stored", "shown"),
            "Whether masks were drawn on the stored or the shown (turned) image.", "Images",
            Unset("by their size, else shown"), commands=("bench", "evaluate"), metavar="SIDE", recorded=True,
            column="text"),
    Setting("aupimo_bounds", rising_rates, "False positive rates between which AUPIMO counts.", "Images",
            Unset("1e-5,1e-4"), commands=("bench", "evaluate"), metavar="LOW,HIGH", recorded=True, column="text"),
    Setting("sigma", number, "Sigma of the blur of the anomaly map, in pixels; 0 for none.", "Images",
            PaDiMConfig.sigma,
            commands=_FIT, metavar="PX", recorded=True, parameter=True, column="text"),
    Setting("score", map_score, "Score of an image by its map: max, or mean(0.01) for its highest 1%.", "Images",
            Unset("as the detector's paper says"), commands=_FIT, metavar="RULE", recorded=True, parameter=True,
            optional=True, column="text"),
    Setting("map_values", one_of("score", *MAP_VALUES), "Values of maps: score, or p-value for -log10 of how rare a "
            "score is at its place.", "Images", commands=(*_FIT, "predict", "calibrate"), metavar="VALUES",
            none="score", recorded=True, parameter=True, optional=True, column="text"),
    Setting("augment", operations, "Also fit on augmented views, e.g. flip,rotate(10),brightness(0.1).", "Images",
            commands=_FIT, metavar="A,B", none="none", recorded=True, parameter=True, optional=True, column="text"),
    Setting("passes", at_least(2), "Views of each normal image with --augment.", "Images", Unset(f"{PASSES}"),
            commands=_FIT, metavar="N", recorded=True, parameter=True, optional=True, column="integer"),
    Setting("tta", operations, "Score several views of each image, e.g. flip,rotate(5).", "Images", commands=_FIT,
            metavar="A,B", none="none", recorded=True, parameter=True, optional=True, column="text"),
    Setting("roi", path, "Region of interest: one mask for all images, or a folder of masks.", "Images",
            commands=_SCORE, metavar="MASK|DIR", recorded=True, parameter=True, optional=True, column="text"),
    Setting("max_pixels", at_least(1), "Largest image that is read, in pixels: a small file may unpack to gigabytes.",
            "Images", Unset("PADIM_ZOO_MAX_PIXELS, or 100 million"), commands=_READ, metavar="N",
            resolve=resolve_max_pixels),

    Setting("folds", at_least(1), "Number of folds of the normal images.", "Runs", 1, metavar="K", recorded=True,
            column="integer"),
    Setting("groups", pattern, "Regular expression on paths: equal matches (or first captures) stay in one fold.",
            "Runs", Unset("copies and near copies"), commands=_FIT, metavar="REGEX", recorded=True, column="text"),
    Setting("seeds", at_least(0), "Seed of the draws of channels, folds, coresets and augmented views.", "Runs",
            (PaDiMConfig.seed,), commands=(*_FIT, "finetune"), form="list", one="seed", metavar="N", recorded=True,
            parameter=True, column="integer"),
    Setting("train_sizes", at_least(2, " or all"), "Numbers of normal images to fit on, for learning curves.", "Runs",
            (None,),
            form="list", one="train_size", metavar="N", none="all", recorded=True, column="integer"),
    Setting("contaminate", share_of_defects,
            "Share of anomalous test images to put among the images to fit, or none.", "Runs", (None,),
            form="list", one="contaminated", metavar="SHARE", none="none", recorded=True, column="number"),
    Setting("trim", share_to_trim,
            "Share of the normal images, the most unlike the others, that is left out of the fit; auto: suspects.",
            "Runs", Unset("none"), commands=("fit",), metavar="SHARE|auto"),
    Setting("trim_patches", share_of_patches,
            "Share of the normal images left out at each patch, the most unlike the others there.", "Runs",
            commands=_FIT, metavar="SHARE", none="none", recorded=True, parameter=True, optional=True, column="number"),
    Setting("corruptions", corruptions,
            "Also score corrupted test images at the threshold, e.g. blur(1,2),jpeg(30).", "Runs", metavar="A,B",
            none="none", recorded=True, column="text"),
    Setting("time_exports", one_of(late="padim_zoo.export.suffixes:RUNTIMES"),
            f"Also export to these runtimes ({', '.join(NAMES[1:])}) and time them.", "Runs", form="list"),
    Setting("jobs", at_least(1), "Number of worker processes.", "Runs", 1, metavar="N"),
    Setting("cluster", cluster, "Dask cluster to run on: local, tcp://…, tls://… or file:scheduler.json.", "Runs",
            commands=_FIT, metavar="ADDRESS"),
    Setting("insecure", switch, "Allow a cluster that encrypts nothing beyond this machine.", "Runs", False,
            commands=_FIT, form="switch"),
    Setting("shard", shard, "One of several fixed parts, such as 3/16.", "Runs", commands=_FIT, metavar="K/N"),
    Setting("gallery", switch, "Keep pictures of a few test images for the report.", "Runs", True, form="switch"),
    Setting("output", path, "Run store.", "Runs", Path("runs"), metavar="DIR"),
    Setting("pictures", one_of(*PICTURES), f"Pictures to write to --output: {', '.join(PICTURES)}.", "Pictures",
            commands=_PICTURES, lists_in=_PICTURES, form="list", metavar="KIND"),
    Setting("alpha", share, "Opacity of the hottest pixels of overlays.", "Pictures", PictureChoice.alpha,
            commands=_PICTURES, metavar="SHARE"),
    Setting("colormap", colormap, "Colormap of heat maps; padim-zoo[report] adds matplotlib's, e.g. viridis.",
            "Pictures", PictureChoice.colormap, commands=_PICTURES),
    Setting("fpr", rate, "False-alarm rate of the threshold.", "Threshold",
            Unset(f"{FALSE_ALARM_RATE:g}, or the least possible"),
            defaults=dict.fromkeys(("forget", "update"), Unset("as asked of MODEL")),
            commands=("bench", "calibrate", "combine", "fit", "forget", "merge", "update"), metavar="RATE",
            recorded=True, column="number"),
    Setting("region_fpr", rate, "Also set a region threshold: the rate of new normal images that show a region.",
            "Threshold", Unset("none"), defaults={"calibrate": Unset("as of MODEL")}, commands=("calibrate", "fit"),
            metavar="RATE"),
    Setting("region_area", at_least(1), "Least area of a region in pixels of the map, with --region-fpr: "
            f"{', '.join(map(str, REGION_AREAS))}.", "Threshold", Unset("1"), commands=("calibrate", "fit"),
            metavar="PIXELS"),
    Setting("decide_by", one_of(*DECIDES), "Threshold that decides which images are anomalous: image, pixel or region.",
            "Threshold", Unset(DECIDES[0]), defaults={"calibrate": Unset("as of MODEL")}, commands=("calibrate", "fit"),
            metavar="LEVEL"),

    Setting("device", device, "Device to compute on: auto, cpu or cuda.", "Computing", PaDiMConfig.device,
            commands=(*_SCORE, "finetune", "forget", "data suspects", "update"), parameter=True),
    Setting("precision", one_of(*PRECISIONS, AUTO_PRECISION),
            "Precision of the backbone: float32, bfloat16 or auto.", "Computing", PaDiMConfig.precision,
            defaults={"finetune": "float32", "export": Unset("the model's; ONNX: float32")},
            commands=(*_FIT, "export", "finetune"), recorded=True, parameter=True, column="text",
            resolve=lambda value: asked_precision(value or AUTO_PRECISION), resolved_in=_COMPUTE),
    Setting("runtime", one_of(*NAMES),
            f"Runtime of the backbone: {', '.join(NAMES[1:])}, or {AUTO} for the fastest.",
            "Computing", Unset(f"PADIM_ZOO_RUNTIME, or {AUTO}"),
            defaults={"bench": Unset(f"PADIM_ZOO_RUNTIME, or {TORCH}")}, commands=(*_SCORE, "update"),
            parameter=True, column="text", resolve=resolve_runtime, resolved_in=_COMPUTE),
    Setting("batch_size", at_least(1), "Images per pass through the backbone.", "Computing", PaDiMConfig.batch_size,
            commands=(*_SCORE, "forget", "data suspects", "update"), metavar="N", parameter=True),
    Setting("memory", memory, "Memory to use at most.", "Computing", Unset("half of what is free"),
            commands=("bench", "evaluate", "finetune", "fit", "predict", "update"), metavar="4GB", parameter=True),
    Setting("stream", bands, "Bands in which large images pass through the backbone: auto (by --memory) or N.",
            "Computing", PaDiMConfig.stream, commands=(*_SCORE, "update"), metavar="auto|N", parameter=True),
    Setting("model_dtype", one_of("float16", "float32"), "Precision of the Gaussians in the file: float16 or float32.",
            "Computing", Unset("float16 where accurate enough"), defaults={"import": "float32"},
            commands=("fit", "import"), metavar="TYPE"),
    Setting("cache", switch, "Use cached features and resized images; see padim-zoo cache info.", "Computing", True,
            commands=_SCORE, form="switch", resolve=lambda _: refuse_bad_variables(), resolved_in=_COMPUTE),
    Setting("plugin", path, "Python file that registers a backbone, estimator, detector or data set.", "Computing",
            commands=_PLUGIN, form="repeated",
            metavar="FILE"),
    Setting("quiet", switch, "Show no progress; bench shows no leaderboard either.", "Computing", False,
            commands=(*_SCORE, *_CHANGE, "data check", "data synthetic"), form="flag"),
)
# fmt: on

SETTINGS = {row.name: row for row in _ROWS}
"""The rows by name, in the order of ``--help`` and of the columns of the leaderboard."""


def settings_of(command: str) -> list[Setting]:
    """The settings that a command takes."""
    return [row for row in SETTINGS.values() if command in row.commands]
