"""`python -m lab`."""

import sys

from lab.host.cli import main

sys.exit(main())
