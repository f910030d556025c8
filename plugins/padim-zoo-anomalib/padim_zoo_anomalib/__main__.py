"""``padim-zoo-anomalib``: the command line of anomalib, which knows ``PadimZoo`` by its bare name.

``anomalib benchmark`` takes only models of anomalib's own modules, where importing this package puts ours too.
"""

from __future__ import annotations


def main() -> None:
    """Run anomalib's command line."""
    from anomalib.cli.cli import main as anomalib

    import padim_zoo_anomalib.lightning_model  # noqa: F401  registers the model

    anomalib()


if __name__ == "__main__":
    main()
