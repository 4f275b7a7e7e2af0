"""`python -m lab`."""

import sys

from lab.host.cli.main import main

sys.exit(main())
