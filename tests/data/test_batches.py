"""Everything that images can be given as, to the same batches."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from padim_zoo.core.errors import InputError
from padim_zoo.data import loading
from padim_zoo.data.augmentation import ViewSet
from padim_zoo.data.files import paths_of
from padim_zoo.data.ground_truth import masks
from padim_zoo.data.image import read_image
from padim_zoo.data.loading import batches, view_batches
from padim_zoo.data.sample import Sample
from padim_zoo.data.transform import Transform

N, SIZE = 7, 12
PIXELS = np.random.default_rng(0).integers(0, 256, (N, SIZE, SIZE, 3), dtype=np.uint8)
CHANNELS_FIRST = torch.from_numpy(PIXELS).permute(0, 3, 1, 2).contiguous()
AS_IS = Transform(None, None)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for index, image in enumerate(PIXELS):
        below = tmp_path / ("a" if index < 3 else "b")
        below.mkdir(exist_ok=True)
        Image.fromarray(image).save(below / f"{index}.png")
    (tmp_path / "b" / "Thumbs.db").write_text("no image")
    (tmp_path / "b" / "._0.png").write_text("no image")
    return tmp_path


def collect(images: object, transform: Transform = AS_IS, batch_size: int = 3) -> torch.Tensor:
    return torch.cat(list(batches(images, transform, batch_size)))


@pytest.mark.parametrize("batch_size", [1, 3, 7, 100])
@pytest.mark.parametrize("workers", [1, 3])
def test_batches_are_the_images_one_by_one(
    folder: Path, batch_size: int, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "usual_workers", lambda ahead: workers)
    transform = Transform(8, 5)
    given = list(batches(folder, transform, batch_size))
    assert [len(batch) for batch in given[:-1]] == [batch_size] * (len(given) - 1)
    assert all(batch.is_contiguous(memory_format=torch.channels_last) and batch.dtype == torch.uint8 for batch in given)
    expected = [transform.image(read_image(path)).transpose(2, 0, 1) for path in paths_of(folder)]
    np.testing.assert_array_equal(torch.cat(given).numpy(), np.stack(expected))


def test_every_form_gives_the_same(folder: Path) -> None:
    paths = paths_of(folder)
    pil_images = [Image.open(path) for path in paths]
    forms = {
        "folder": str(folder),
        "glob": str(folder / "*" / "*.png"),
        "paths": paths,
        "names": tuple(map(str, paths)),
        "folders": [folder / "a", folder / "b"],
        "samples": [Sample(path, 0) for path in paths],
        "pil": pil_images,
        "arrays": list(PIXELS),
        "float arrays": [image / 255 for image in PIXELS],
        "array": PIXELS,
        "float array": (PIXELS / 255).astype(np.float32),
        "tensors": list(CHANNELS_FIRST),
        "tensor": CHANNELS_FIRST,
        "float tensor": CHANNELS_FIRST.double() / 255,
        "mapping": {"image": CHANNELS_FIRST, "label": 0},
        "mixed": [paths[0], PIXELS[1], CHANNELS_FIRST[2], Image.open(paths[3]), CHANNELS_FIRST[4:]],
        "generator": (path for path in paths),
    }
    for name, images in forms.items():
        assert torch.equal(collect(images), CHANNELS_FIRST), name


def test_data_loaders(folder: Path) -> None:
    labeled = [(image, 0, {"any": "thing"}) for image in CHANNELS_FIRST.float() / 255]
    named = [{"image": image, "index": index} for index, image in enumerate(CHANNELS_FIRST)]
    for dataset in (list(CHANNELS_FIRST), labeled, named):
        for size in (1, 2, 7):
            assert torch.equal(collect(DataLoader(dataset, batch_size=size)), CHANNELS_FIRST)
    assert collect(DataLoader(list(CHANNELS_FIRST), batch_size=4), Transform(8, 5)).shape == (N, 3, 5, 5)
    assert torch.equal(collect(labeled), CHANNELS_FIRST)  # a data set without a loader


def test_no_image_of_a_list_is_lost(folder: Path) -> None:
    """Only what stands beside a batch in a list, or behind the first item of a tuple, is no image."""
    paths = paths_of(folder)
    pil_images = [Image.open(path) for path in paths]
    forms = {
        "halves": [pil_images[:3], pil_images[3:]],
        "nested": [[[PIXELS[0]], list(PIXELS[1:4])], paths[4:]],
        "loader of lists": DataLoader(pil_images, batch_size=3, collate_fn=lambda images: images),  # type: ignore[arg-type]
        "labeled batches": [[CHANNELS_FIRST[:4], torch.zeros(4)], [PIXELS[4:], [0, 0, 0]]],
        "tuples of lists": [(pil_images[:3], [0, 0, 0]), (pil_images[3:], [0] * 4)],
        "list of tuples": [[(image, 0) for image in pil_images]],
    }
    for name, images in forms.items():
        assert torch.equal(collect(images), CHANNELS_FIRST), name


@pytest.mark.parametrize(
    "one", [PIXELS[0], CHANNELS_FIRST[0], Image.fromarray(PIXELS[0])], ids=["array", "tensor", "pil"]
)
def test_a_single_image_is_a_batch_of_one(one: object) -> None:
    assert torch.equal(collect(one), CHANNELS_FIRST[:1])


def test_a_single_file_or_sample_and_repetition(folder: Path) -> None:
    path = folder / "a" / "0.png"
    assert torch.equal(collect(path), CHANNELS_FIRST[:1])
    assert torch.equal(collect(Sample(path, 0)), CHANNELS_FIRST[:1])
    assert torch.equal(collect([Image.open(path)] * 5), CHANNELS_FIRST[:1].repeat(5, 1, 1, 1))
    assert torch.equal(collect([path, path]), CHANNELS_FIRST[:1].repeat(2, 1, 1, 1))


def test_grey_is_repeated() -> None:
    assert torch.equal(collect(PIXELS[0, :, :, 0]), CHANNELS_FIRST[:1, :1].repeat(1, 3, 1, 1))


def test_look_ahead_is_bounded_and_threads_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "usual_workers", lambda ahead: 2)
    taken = 0

    def endless() -> Iterator[np.ndarray]:
        nonlocal taken
        while True:
            taken += 1
            yield PIXELS[0]

    before = set(threading.enumerate())  # those of other tests may end meanwhile
    stream = batches(endless(), AS_IS, 4)
    for given in range(1, 6):
        next(stream)
        assert taken <= 4 * (given + 2)
    stream.close()
    assert set(threading.enumerate()) <= before


@pytest.mark.parametrize("batch_size", [1, 3, 7, 100])
@pytest.mark.parametrize("workers", [1, 3])
def test_without_look_ahead_nothing_is_made_while_a_batch_is_worked_on(
    folder: Path, batch_size: int, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Path] = []

    def note(path: Path, bit_depth: int | None) -> np.ndarray:
        made.append(path)
        return read_image(path, bit_depth)

    monkeypatch.setattr(loading, "read_image", note)
    monkeypatch.setattr(loading, "usual_workers", lambda ahead: workers)
    given: list[torch.Tensor] = []
    for batch, _ in view_batches(folder, AS_IS, batch_size, ViewSet(), ahead=False):
        given.append(batch)
        assert len(made) == sum(len(one) for one in given)
    assert torch.equal(torch.cat(given), CHANNELS_FIRST)
    assert sorted(made) == sorted(paths_of(folder))


def test_two_sizes_name_both_images(folder: Path) -> None:
    Image.new("RGB", (20, 10)).save(folder / "b" / "wide.png")
    message = r"a/0\.png is 12x12 and .*wide\.png is 10x20 .*--crop N, --resize HxW"
    with pytest.raises(InputError, match=message.replace("/", r"[/\\]")):
        collect(folder)
    with pytest.raises(InputError, match=r"image 0 is 12x12 and image 1 is 6x6"):
        collect([PIXELS[0], PIXELS[1][:6, :6]])
    assert collect(folder, Transform(8, 8)).shape == (N + 1, 3, 8, 8)


def test_a_crop_that_does_not_fit_names_the_image(folder: Path) -> None:
    with pytest.raises(InputError, match=r"0\.png: the crop 20x20 is larger than the image"):
        collect(folder, Transform(None, 20))


def test_a_broken_file_is_named(folder: Path) -> None:
    (folder / "b" / "5.png").write_bytes((folder / "b" / "5.png").read_bytes()[:100])
    with pytest.raises(InputError, match=r"5\.png"):
        collect(folder)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([], "no images were given"),
        (np.zeros((0, 4, 4, 3), np.uint8), "no images were given"),
        (None, "images are a NoneType"),
        ([3], "images are a int"),
        ([()], "empty tuple"),
        ({"pixels": 1}, "keys 'pixels': expected the images under 'image'"),
        (CHANNELS_FIRST.float(), r"image 0 has values from .* \[0, 1\]"),
        (PIXELS[:, :, :, 0], "image 0 has shape"),
        ("no/such/file.png", r"no/such/file\.png does not exist"),
        (["no/such/*.png"], "matches nothing"),
    ],
)
def test_what_is_refused(images: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        collect(images)


def test_normalized_tensors_are_refused() -> None:
    normalized = (CHANNELS_FIRST.float() / 255 - 0.45) / 0.22
    with pytest.raises(InputError, match="not normalized"):
        collect(DataLoader(list(normalized), batch_size=2))


def test_paths_of_folders_files_and_patterns(folder: Path) -> None:
    everything = [folder / "a" / f"{i}.png" for i in range(3)] + [folder / "b" / f"{i}.png" for i in range(3, 7)]
    assert paths_of(folder) == everything
    assert paths_of(str(folder / "*")) == everything  # folders that match
    assert paths_of(folder / "**" / "*") == everything  # folders and files that match
    assert paths_of([folder / "b", folder / "a" / "1.png"]) == [*everything[3:], everything[1]]
    odd = folder / "a" / "1[2].dat"
    Image.fromarray(PIXELS[0]).save(odd, format="png")
    assert paths_of(odd) == [odd]  # named outright: neither a pattern nor judged by its suffix


def test_hidden_folders_are_not_entered(folder: Path) -> None:
    (folder / "a").rename(folder / ".thumbnails")
    assert [path.name for path in paths_of(folder)] == ["3.png", "4.png", "5.png", "6.png"]


def test_links_are_followed_but_not_for_ever(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    top = tmp_path_factory.mktemp("links")
    os.symlink(folder, top / "images")
    os.symlink(top, folder / "b" / "above")
    assert [path.name for path in paths_of(top)] == [f"{index}.png" for index in range(N)]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing", "does not exist: expected an image file, a folder"),
        ("*.gif", "matches nothing"),
        ("empt*", "only matches .*empty, which holds no image"),
        ("empty", r"has no image in it: expected \.bmp"),
    ],
)
def test_paths_that_stand_for_nothing(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "readme.txt").touch()
    with pytest.raises(InputError, match=message):
        paths_of(str(tmp_path / name))


def test_masks_stay_in_register_with_their_images(tmp_path: Path) -> None:
    """The masked pixels of a transformed image are those that are bright, on an image turned by EXIF too."""
    pixels = np.zeros((40, 30, 3), dtype=np.uint8)
    pixels[10:20, 12:18] = 255
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(tmp_path / "x.png", exif=exif)
    upright = read_image(tmp_path / "x.png")
    Image.fromarray(upright[:, :, 0]).save(tmp_path / "m.png")
    samples = [Sample(tmp_path / "x.png", 1, "spot", (tmp_path / "m.png",)), Sample(tmp_path / "x.png", 0)]
    transform = Transform(60, 50)
    marked, nothing = masks(samples, transform)
    assert nothing is None
    assert marked is not None
    image = next(batches(samples, transform, 1))[0, 0].numpy()
    np.testing.assert_array_equal(marked[image == 255], 1)
    np.testing.assert_array_equal(marked[image == 0], 0)


def test_a_mask_of_another_size_names_both_files(tmp_path: Path) -> None:
    Image.fromarray(PIXELS[0]).save(tmp_path / "x.png")
    Image.fromarray(np.uint8(255) * (PIXELS[0, :5, :, 0] > 99)).save(tmp_path / "m.png")
    with pytest.raises(InputError, match=r"m\.png is 5x12 but its image .*x\.png is 12x12"):
        masks([Sample(tmp_path / "x.png", 1, "spot", (tmp_path / "m.png",))], AS_IS)


def test_real_images(shared: Path) -> None:
    test = shared / "data" / "mvtec_reduced" / "hazelnut_reduced" / "test"
    images = collect(test, Transform(256, 224), batch_size=4)
    assert images.shape == (10, 3, 224, 224)
    assert torch.equal(images[:1], next(batches(test / "crack" / "000.png", Transform(256, 224), 1)))
