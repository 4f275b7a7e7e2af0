"""The load's connections by io_uring(7): the interpreter is called for a batch of them, not for each."""
