"""Images of whole distributions: what kind of file, what their partitions hold, which is the root, which kernel."""
