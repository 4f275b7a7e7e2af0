"""A run on many machines, by Dask distributed (https://distributed.dask.org): its scheduler and workers do the work of
queues, connections and lost hosts; what is here says what a task is, and trusts no result.

On the client: `running` (a whole run), `dispatching` (which cells go out, what comes back), `intake` (an archive into
the run's folder), `sending` (images and kernels to who lacks them), `connection`. On a worker: `worker`, `chunk` (a
task), `fetching` and `receiving`. Both know `address`, `keys`, `settings`, `package`, `artifacts` and `archive`.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from lab.core.errors import PrerequisiteError

# what to do where a worker, or what came from it, is not as it must be; the run goes on with the others
WORKER_HINT = "look at that worker: its disk, its memory, and what it printed"


@contextmanager
def with_dask() -> Iterator[None]:
    """For imports of what needs Dask, which comes with an extra. Raises PrerequisiteError on a host without it."""
    try:
        yield
    except ImportError as error:
        raise PrerequisiteError(f"{error.name} is not installed", hint="pip install 'conntrack-lab[fleet]'") from error
