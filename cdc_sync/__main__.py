"""Run as `python -m cdc_sync`, or as `cdc-sync`."""

from cdc_sync import signals


def main() -> None:
    """The console script."""
    signals.hold()
    signals.leave_first_process()
    from cdc_sync import cli  # noqa: PLC0415 - this takes most of the time of a start

    cli.main()


if __name__ == "__main__":
    main()
