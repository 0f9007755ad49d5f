"""`python3 -m node COMMAND`."""

import sys

from . import life, scraper

if __name__ == "__main__":
    {"metrics": scraper.run, "lifecycle": life.run}[sys.argv[1]]()
