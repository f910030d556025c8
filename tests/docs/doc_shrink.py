"""Commands of the documentation made small; imports nothing that is slow.

The pages show commands as one types them; here they deal with images of 64 × 64 pixels. As a program it is
``padim-zoo`` made small.
"""

from __future__ import annotations

import sys

TRAIN, GOOD, DEFECTS, SIZE = 19, 2, 1, 64
SMALL_TRANSFORM = ["--resize", str(SIZE), "--crop", "none"]
SMALL_DATA = ["--size", str(SIZE), "--train", str(TRAIN), "--good", str(GOOD), "--defects", str(DEFECTS)]
CATEGORIES = "gear,leather"
FEWER = {"--seeds": "0", "--train-sizes": "5,all"}
"""Options of ``bench`` that multiply the runs: what they become where they are given."""
OWN_DATA = {"--data-root", "--normal", "--config", "--suite", "--dataset"}


def shrink(arguments: list[str], drawn: str) -> list[str]:
    """A command's arguments for a small world: options at the end replace those before them.

    Parameters
    ----------
    arguments : list of str
        Of ``padim-zoo``.
    drawn : str
        A folder for small synthetic images, instead of those that ``bench`` draws by itself.
    """
    given = set(arguments)
    match arguments[:2]:
        case ["data", "synthetic"]:
            return arguments + SMALL_DATA
        case ["fit" | "finetune", *_]:
            return arguments + SMALL_TRANSFORM
        case ["bench", *_]:
            own = [] if given & OWN_DATA else ["--dataset", "synthetic", "--data-root", drawn]
            categories = [] if not own or "--categories" in given else ["--categories", CATEGORIES]
            fewer = [word for option, value in FEWER.items() if option in given for word in (option, value)]
            return arguments + SMALL_TRANSFORM + own + categories + fewer
        case ["check", *_]:  # times and memory of a test process say nothing
            return [*arguments, "--slowdown", "inf", "--memory-growth", "inf"]
    return arguments


if __name__ == "__main__":
    from padim_zoo.cli.main import main

    sys.argv[1:] = shrink(sys.argv[2:], sys.argv[1])
    main(prog_name="padim-zoo")
