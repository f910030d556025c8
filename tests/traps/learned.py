"""Images that are learned though they should not be, or twice."""

from __future__ import annotations

import json
import re
import shutil

import numpy as np

from padim_zoo import PaDiM
from padim_zoo.data.image import read_image
from padim_zoo.detectors.loading import load
from padim_zoo.registry import datasets
from tests.traps.drawing import KIND, TRAIN, damaged, disc, save
from tests.traps.trap import trap
from tests.traps.world import Outcome, World, is_refused, is_told


@trap("defects beside good")
def defects_beside_good(world: World) -> Outcome:
    parts = world.folder / "parts"
    shutil.copytree(world.base / "train" / "good", parts / "good")
    shutil.copytree(world.base / "test" / KIND, parts / "bad")
    return is_refused(world.try_fit(parts), "bad", "parts/good")


@trap("a folder of defects itself")
def folder_of_defects(world: World) -> Outcome:
    return is_refused(world.try_fit(world.base / "test" / KIND), "test images of a defect")


@trap("a folder of masks itself")
def folder_of_masks(world: World) -> Outcome:
    return is_refused(world.try_fit(world.base / "ground_truth" / KIND), "masks")


@trap("a whole category to fit on")
def whole_category(world: World) -> Outcome:
    return is_refused(world.try_fit(world.base), "train/good")


@trap("a whole category to update with")
def whole_category_to_update(world: World) -> Outcome:
    return is_refused(world.run("update", world.model, world.base, "-o", world.folder / "u.safetensors"), "train/good")


def _with_copies(world: World, name: str) -> World:
    folder = world.folder / name
    for index, path in enumerate(sorted((world.base / "train" / "good").iterdir())[:5]):
        for copy in range(4):
            folder.mkdir(exist_ok=True)
            shutil.copy(path, folder / f"{index}{copy}.png")
    return world


@trap("copies among the images of a fit, with a rate")
def copies_with_a_rate(world: World) -> Outcome:
    _with_copies(world, "copied")
    return is_refused(world.try_fit(world.folder / "copied", "--fpr", 0.05), "at least 19 normal images, found 5")


@trap("copies among the images of a fit")
def copies(world: World) -> Outcome:
    _with_copies(world, "copies")
    return is_told(world.try_fit(world.folder / "copies"), "0.167", "5 different of 20")


@trap("near copies among the images of a fit")
def near_copies(world: World) -> Outcome:
    folder = world.folder / "near"
    for index, path in enumerate(sorted((world.base / "train" / "good").iterdir())[:5]):
        image = read_image(path)
        save(image, folder / f"{index}.png")
        save(np.clip(image.astype(int) + 1, 0, 255).astype(np.uint8), folder / f"{index}_again.png")
    return is_told(world.try_fit(folder), "5 different of 10")


@trap("a burst that is most of the images of a fit")
def burst(world: World) -> Outcome:
    folder = world.folder / "burst"
    random = np.random.default_rng(0)
    for index, path in enumerate(sorted((world.base / "train" / "good").iterdir())[:10]):
        image = read_image(path)
        part = damaged(image, disc(index, *image.shape[:2]))  # told apart by a mark, for parts are much alike
        for frame in range(1 if index else 11):
            moved = np.roll(part, random.integers(0, 2, 2), (0, 1))
            pixels = random.uniform(0.95, 1.05) * moved + random.normal(0, 2, moved.shape)
            save(np.clip(pixels, 0, 255).astype(np.uint8), folder / f"{index}_{frame}.png")
    return is_told(world.try_fit(folder), "10 different of 20")


@trap("an update with images that the model knows")
def known_update(world: World) -> Outcome:
    target = world.folder / "u.safetensors"
    ran = world.run("update", world.model, world.base / "train" / "good", "-o", target)
    before = world.threshold(world.model)
    after = world.threshold(target) if ran.code == 0 else float("nan")
    told = f"0 new of {_count(world)}"
    return Outcome(f"threshold {after:.4g}", f"threshold {before:.4g}, says {told}", before == after and ran.says(told))


def _count(world: World) -> int:
    return min(TRAIN, len(list((world.base / "train" / "good").iterdir())))


@trap("models of overlapping images in a merge")
def overlapping_merge(world: World) -> Outcome:
    paths = sorted((world.base / "train" / "good").iterdir())
    one, other = world.fit(*paths[:7]), world.fit(*paths[4:])
    target = world.folder / "merged.safetensors"
    ran = world.run("merge", one, other, "-o", target)
    merged = load(target) if ran.code == 0 else None
    count = merged.n_images_ if isinstance(merged, PaDiM) else 0
    return Outcome(f"{count} images", f"{_count(world)} images, says 3 new of 6", count == _count(world))


@trap("a test on images of the fit")
def tested_on_learned(world: World) -> Outcome:
    folder = world.copy("learned")
    shutil.rmtree(folder / "test" / "good")
    shutil.copytree(folder / "train" / "good", folder / "test" / "good")
    return is_refused(world.evaluate(world.model, folder), "has learned all")


@trap("some images of the fit among the test images")
def some_learned(world: World) -> Outcome:
    folder = world.copy("some_learned")
    for path in sorted((folder / "train" / "good").iterdir())[:3]:
        shutil.copy(path, folder / "test" / "good" / f"again_{path.name}")
    ran = world.evaluate(world.model, folder)
    count = re.search(r'"normal_images": (\d+)', ran.stdout)
    printed = f"{count[1]} normal images" if count else ran.line
    right = f"{len(list((world.base / 'test' / 'good').iterdir()))} normal images"
    return Outcome(printed, f"{right}, says 3 are left out", printed == right and ran.says("3 of", "left out"))


@trap("near copies of the fit among the test images")
def nearly_learned(world: World) -> Outcome:
    folder = world.copy("nearly_learned")
    for path in sorted((folder / "train" / "good").iterdir())[:3]:
        brighter = np.clip(read_image(path).astype(int) + 1, 0, 255).astype(np.uint8)
        save(brighter, folder / "test" / "good" / f"again_{path.name}")
    ran = world.evaluate(world.model, folder)
    return is_told(ran, "near copies of images that the model has learned", '"near_copies_of_learned_images": 3')


@trap("a burst among images of which some are held out")
def held_out_burst(world: World) -> Outcome:
    folder = world.folder / "held_out" / "fine"
    for index, path in enumerate(sorted((world.base / "train" / "good").iterdir())):
        image = read_image(path)
        part = damaged(image, disc(index, *image.shape[:2]))  # told apart by a mark, for parts are much alike
        for frame in range(2):
            save(np.clip(part.astype(int) + frame, 0, 255).astype(np.uint8), folder / f"{index:02}_{frame}.png")
    dataset = datasets.create("folder", normal=folder)
    category = dataset.load(dataset.categories()[0])
    train, test = ({sample.path.stem[:2] for sample in part} for part in (category.train, category.test))
    printed = f"{len(test)} of {len(train | test)} parts held out, {len(train & test)} on both sides"
    return Outcome(printed, "no part on both sides", bool(test) and not train & test)


@trap("a defect among the images of the fit")
def learned_defect(world: World) -> Outcome:
    paths = [*sorted((world.base / "train" / "good").iterdir()), world.base / "test" / KIND / "000.png"]
    folder = world.folder / "with_defect"
    folder.mkdir()
    for index, path in enumerate(paths):
        shutil.copy(path, folder / f"{index}.png")
    ran = world.evaluate(world.fit(folder), world.base)
    return is_told(ran, "learned defects as normal")


@trap("one picture that is normal and anomalous")
def two_labels(world: World) -> Outcome:
    folder = world.copy("two_labels")
    shutil.copy(folder / "test" / KIND / "000.png", folder / "test" / "good" / "x.png")
    return is_refused(world.evaluate(world.model, folder), "the same picture")


@trap("normal and anomalous test images swapped")
def swapped(world: World) -> Outcome:
    folder = world.copy("swapped", many=True)
    test = folder / "test"
    (test / "good").rename(test / "was_good")
    (test / KIND).rename(test / "good")
    (test / "was_good").rename(test / KIND)
    shutil.rmtree(folder / "ground_truth")
    outcome = is_told(world.evaluate(world.model_of_many, folder), "look whether the two are swapped")
    sound = world.figures(world.model_of_many, world.many)
    if outcome.passed or sound["image_auroc_low"] > 0.5:
        return outcome
    # Scores of chance, the same in both orders, mislead nobody.
    return Outcome(outcome.printed, f"nothing: image AUROC is {sound['image_auroc']:.2f} unswapped", True)


@trap("test images in another light")
def another_light(world: World) -> Outcome:
    folder = world.copy("another_light", many=True)
    for path in sorted((folder / "test" / "good").iterdir()):
        save((read_image(path) * 0.3).astype(np.uint8), path)
    ran = world.evaluate(world.model_of_many, folder)
    outcome = is_told(ran, "normal test images are alarms", "was promised")
    if outcome.passed or ran.code:
        return outcome
    alarms = json.loads(ran.stdout)["thresholds"][0]["false_alarms"]
    # As few alarms as promised: the light did not mislead this model.
    calibration = load(world.model_of_many).calibration_
    assert calibration is not None
    kept = alarms["low"] <= calibration.false_alarm_rate
    printed = f"{alarms['count']} of {alarms['of']} normal images are alarms"
    return Outcome(printed, f"{outcome.right}, or no more alarms than promised", kept)


@trap("a fit on few images")
def few_images(world: World) -> Outcome:
    return is_told(world.try_fit(world.base / "train" / "good"), "promise no false-alarm rate below", "ridge")


@trap("a test on few images")
def few_test_images(world: World) -> Outcome:
    folder = world.copy("few")
    ran = world.evaluate(world.model, folder)
    low, high = (re.search(rf'"image_auroc_{end}": ([\d.]+|null)', ran.stdout) for end in ("low", "high"))
    printed = f"interval {low and low[1]} to {high and high[1]}"
    zero_width = low is not None and high is not None and low[1] == high[1] != "null"
    return Outcome(printed, "no interval of zero width", ran.code == 0 and not zero_width)


@trap("a defect outside of the crop")
def outside_of_the_crop(world: World) -> Outcome:
    folder = world.folder / "strip"
    for index, path in enumerate(sorted((world.base / "train" / "good").iterdir())):
        save(_strip(read_image(path)), folder / f"train/good/{index}.png")
    for index, path in enumerate(sorted((world.base / "test" / "good").iterdir())):
        image = _strip(read_image(path))
        marked = np.zeros(image.shape[:2], dtype=bool)
        marked[16:32, 4:20] = True
        save(image, folder / f"test/good/{index}.png")
        save(damaged(image, marked), folder / f"test/{KIND}/{index}.png")
        save(np.uint8(255) * marked, folder / f"ground_truth/{KIND}/{index}_mask.png")
    ran = world.evaluate(world.fit(folder / "train" / "good"), folder)
    covered = re.search(r'"annotated_share": ([\d.]+)', ran.stdout)
    auroc = re.search(r'"image_auroc": ([\d.]+)', ran.stdout)
    printed = f"image AUROC {auroc and auroc[1]}, {covered and covered[1]} of the annotated area"
    return Outcome(printed, "all of each image is looked at", covered is not None and float(covered[1]) == 1)


def _strip(image: np.ndarray) -> np.ndarray:
    return np.concatenate([image[:, :64], image[:, ::-1], image[:, :64], image[:, ::-1]], axis=1)
