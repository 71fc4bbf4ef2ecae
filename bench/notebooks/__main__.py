"""`python -m bench.notebooks build|check [NAME ...]`."""

import sys

from bench.notebooks import pairs

raise SystemExit(pairs.main(sys.argv[1:]))
