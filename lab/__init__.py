"""conntrack-lab: in this state, on this kernel, are connections tracked, and what happens when the table fills?"""

__version__ = "0.1.0"
