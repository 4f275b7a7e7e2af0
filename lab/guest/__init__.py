"""What runs inside the machine: Python 3.6, standard library only, imports nothing else of the lab.

It records raw text and drives connections. It never judges: a wrong parser on the host costs `lab judge`, not a run.
"""

# Raised whenever a message of the channel changes its meaning; the host refuses an agent of another version.
PROTOCOL_VERSION = 1
