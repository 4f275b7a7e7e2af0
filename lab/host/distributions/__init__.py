"""Whole distributions, as they are published: an image is found by name, path or URL, looked into by the lab's own
guest, and then booted with its own kernel and root. Nothing of it runs on the host, and nothing is mounted there.
"""
