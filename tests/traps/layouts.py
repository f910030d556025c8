"""Folders that hold something other than they seem."""

from __future__ import annotations

import os
import shutil
import unicodedata
from pathlib import Path

from PIL import Image

from tests.traps.drawing import KIND
from tests.traps.trap import trap
from tests.traps.world import Outcome, World, has_figures, is_refused, is_told


def _evaluated(world: World, folder: Path, *parts: str) -> Outcome:
    return has_figures(world.evaluate(world.model, folder), world.sound, *parts)


@trap("images in folders by date")
def nested(world: World) -> Outcome:
    folder = world.copy("nested")
    for split in ("train/good", "test/good", f"test/{KIND}", f"ground_truth/{KIND}"):
        (folder / split / "day2").mkdir()
        for path in sorted((folder / split).glob("*[13579]*.png")):
            path.rename(path.parent / "day2" / path.name)
    first, second = world.fit("--data-root", folder), world.fit(folder / "train" / "good")
    if world.threshold(first) != world.threshold(second):
        return Outcome("another fit by --data-root", "one fit", False)
    return _evaluated(world, folder)


@trap("thumbnails of a file server")
def thumbnails(world: World) -> Outcome:
    folder = world.copy("thumbnails") / "train" / "good"
    for path in sorted(folder.glob("*.png")):
        (folder / "@eaDir" / path.name).mkdir(parents=True)
        Image.open(path).reduce(2).save(folder / "@eaDir" / path.name / "THUMB.png")
    same = world.threshold(world.fit(folder)) == world.threshold(world.model)
    ran = world.try_fit(folder)
    return Outcome("one fit" if same else "another fit", "one fit, says passed over", same and ran.says("passed over"))


@trap("images of a type that is not read")
def other_types(world: World) -> Outcome:
    folder = world.copy("types") / "train" / "good"
    Image.open(folder / "000.png").save(folder / "more.gif")
    os.symlink(folder / "nowhere.png", folder / "link.png")
    return is_told(world.try_fit(folder), "2 files passed over", ".gif", "broken link")


@trap("images that end in .jfif")
def jfif(world: World) -> Outcome:
    folder = world.copy("jfif") / "train" / "good"
    for path in sorted(folder.glob("*.png"))[:3]:
        Image.open(path).save(path.with_suffix(".jfif"), format="JPEG")
        path.unlink()
    count = len(list(folder.iterdir()))
    return is_told(world.try_fit(folder), f"on {count} normal images")


@trap("test/OK beside test/good")
def ok_beside_good(world: World) -> Outcome:
    folder = world.copy("ok")
    (folder / "test" / "OK").mkdir()
    for path in sorted((folder / "test" / "good").iterdir())[:2]:
        path.rename(folder / "test" / "OK" / path.name)
    return _evaluated(world, folder, "count as normal")


@trap("masks beside the images")
def masks_beside(world: World) -> Outcome:
    folder = world.copy("beside")
    for path in (folder / "ground_truth" / KIND).iterdir():
        path.rename(folder / "test" / KIND / path.name)
    return _evaluated(world, folder)


@trap("one mask for two images")
def same_stem(world: World) -> Outcome:
    folder = world.copy("stem")
    Image.open(folder / f"test/{KIND}/001.png").save(folder / f"test/{KIND}/000.jpg")
    return is_refused(world.evaluate(world.model, folder), "000_mask.png may be the mask of")


@trap("two masks for one image")
def two_masks(world: World) -> Outcome:
    folder = world.copy("two_masks")
    shutil.copy(folder / f"ground_truth/{KIND}/001_mask.png", folder / f"ground_truth/{KIND}/000.png")
    return is_refused(world.evaluate(world.model, folder), "has two masks")


@trap("a marked mask of a normal image")
def good_mask_marked(world: World) -> Outcome:
    folder = world.copy("good_marked")
    (folder / "ground_truth" / "good").mkdir()
    shutil.copy(folder / f"ground_truth/{KIND}/000_mask.png", folder / "ground_truth/good/000_mask.png")
    return is_refused(world.evaluate(world.model, folder), "marked pixels", "test/good/000.png")


@trap("names of a Mac and of others")
def unicode_forms(world: World) -> Outcome:
    folder = world.copy("forms")
    for path in (folder / "test" / KIND).iterdir():
        path.rename(path.parent / unicodedata.normalize("NFC", f"prüf{path.name}"))
    for path in (folder / "ground_truth" / KIND).iterdir():
        path.rename(path.parent / unicodedata.normalize("NFD", f"prüf{path.name}"))
    return _evaluated(world, folder)


@trap("a name that is not UTF-8")
def undecodable_name(world: World) -> Outcome:
    folder = world.folder / "names"
    folder.mkdir()
    shutil.copy(world.base / "test/good/000.png", folder / os.fsdecode(b"pr\xfcf.png"))
    ran = world.run("predict", world.model, folder, "-o", world.folder / "predicted")
    table = world.folder / "predicted" / "scores.csv"
    rows = table.read_text(errors="replace").splitlines() if table.exists() else []
    return Outcome(f"{len(rows) - 1} rows, exit {ran.code}", "1 row, exit 0", (len(rows), ran.code) == (2, 0))


@trap("a table in UTF-16")
def utf16_table(world: World) -> Outcome:
    folder = world.folder / "visa"
    rows = ["object,split,label,image,mask"]
    for split, label, where in (
        ("train", "normal", "train/good"),
        ("test", "normal", "test/good"),
        ("test", "anomaly", f"test/{KIND}"),
    ):
        for path in sorted((world.base / where).iterdir()):
            mask = world.base / f"ground_truth/{KIND}/{path.stem}_mask.png" if label == "anomaly" else ""
            rows.append(f"candle,{split},{label},{path},{mask}")
    (folder / "split_csv").mkdir(parents=True)
    (folder / "candle" / "Data" / "Masks").mkdir(parents=True)
    (folder / "split_csv" / "1cls.csv").write_bytes("\r\n".join(rows).encode("utf-16"))
    return has_figures(world.evaluate(world.model, folder, "--dataset", "visa"), world.sound)


@trap("brackets in a folder's name")
def brackets(world: World) -> Outcome:
    folder = world.folder / "line[1]"
    shutil.copytree(world.base / "train" / "good", folder)
    return is_told(world.try_fit(f"{folder}/*.png"), f"on {len(list(folder.iterdir()))} normal images")
