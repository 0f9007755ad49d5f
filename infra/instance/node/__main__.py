"""`python3 -m node COMMAND`."""

import sys

from . import imds, launch, life, scraper
from .lifecycle_hooks import Hooks


def main(command, *words):
    """Run one of the three commands."""
    if command == "metrics":
        scraper.run()
    elif command == "lifecycle":
        life.run()
    elif command == "abandon":
        launch.abandon(Hooks(*imds.identity()), " ".join(words))


if __name__ == "__main__":
    main(*sys.argv[1:])
