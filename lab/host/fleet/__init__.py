"""A run on many machines, by Dask distributed (https://distributed.dask.org): its scheduler and workers do the work of
queues, connections and lost hosts; what is here says what a task is, and trusts no result.

On the client: `running` (a whole run), `dispatching` (which cells go out, what comes back), `intake` (an archive into
the run's folder), `sending` (images and kernels to who lacks them), `connection`. On a worker: `worker`, `chunk` (a
task), `receiving`. Both know `address`, `keys`, `settings`, `package`, `artifacts` and `archive`.
"""

from lab.core.errors import PrerequisiteError

# what to do where a worker, or what came from it, is not as it must be; the run goes on with the others
WORKER_HINT = "look at that worker: its disk, its memory, and what it printed"


def not_installed(error: ImportError) -> PrerequisiteError:
    """What to tell of a host without Dask: it comes with an extra."""
    return PrerequisiteError(f"{error.name} is not installed", hint="pip install 'conntrack-lab[fleet]'")
