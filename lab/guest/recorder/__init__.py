"""Recording a host that is not to be changed: raw texts, in the layout that `lab inspect --from` reads.

Everything here only reads. No table of iptables is asked for that is not there, no program is run whose kernel part is
not loaded, and nothing under /proc or /sys is written. What could not be read has its reason beside it.
"""

FORMAT_VERSION = 1
FOLDER = "conntrack-record"
