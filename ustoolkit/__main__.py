"""`python -m ustoolkit` is the console script."""

import sys

from ustoolkit.cli import main

sys.exit(main())
