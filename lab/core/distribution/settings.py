"""What a distribution's own boot would load, set and start that matters to netfilter, from the files that say so."""

from __future__ import annotations

# what is recorded of an image; directories of settings in the order of modules-load.d(5) and sysctl.d(5)
SETTINGS = (
    "etc/modules",
    *(f"{folder}/modules-load.d/*.conf" for folder in ("etc", "usr/lib", "lib")),
    "etc/sysctl.conf",
    *(f"{folder}/sysctl.d/*.conf" for folder in ("etc", "usr/lib", "lib")),
    *(f"{folder}/modprobe.d/*.conf" for folder in ("etc", "usr/lib", "lib")),
    "etc/systemd/system/*.wants/*.service",
    "etc/runlevels/*/*",
)
