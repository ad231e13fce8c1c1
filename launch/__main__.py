"""`python -m launch COMMAND ...`, which is `nextchapter COMMAND ...`: for torchrun and its like."""

import sys

from launch.cli import main

if __name__ == "__main__":
    sys.exit(main())
