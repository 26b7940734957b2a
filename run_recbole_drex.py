"""The main job: prepare if needed, train, evaluate, explain. See ``python run_recbole_drex.py --help``."""

import sys

from recbole_drex.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["run", *sys.argv[1:]]))
