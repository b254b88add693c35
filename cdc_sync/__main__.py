"""Run as `python -m cdc_sync`, or as `cdc-sync`."""

from cdc_sync.cli import main

if __name__ == "__main__":
    main()
