"""How long somebody who is not there is waited for, as docs/fleet.md says.

Read each as `patience.NAME` when it is needed: tests have less.
"""

# a worker that says nothing; Dask looks as often, so it may be twice that
HANG_SECONDS = 45.0
# a connection over which nothing is acknowledged (tcp(7), TCP_USER_TIMEOUT); Dask takes 11 at least
CUT_SECONDS = 30.0
# a first worker, when a run begins; a worker, later on
FIRST_WORKER_SECONDS, NO_WORKER_SECONDS = 60.0, 300.0
# the scheduler, for whose return a worker waits
SCHEDULER_SECONDS = 600.0
# an answer where a connection is made
CONNECT_SECONDS = 20.0
