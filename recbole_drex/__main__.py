"""``python -m recbole_drex``: the command line, also for ``torchrun -m``."""

import sys

from recbole_drex.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
