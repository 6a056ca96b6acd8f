"""``python -m minions.cli`` is the command ``minions``."""

import sys

from minions.cli import main

if __name__ == "__main__":
    sys.exit(main())
