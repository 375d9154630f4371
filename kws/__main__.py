"""`python -m kws` is the same as `kws`."""

import sys

from kws.cli import main

sys.exit(main())
