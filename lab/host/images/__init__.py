"""Guest images: a root disk, kernel and initial RAM disk, made from a Debian mirror's packages and kept in the cache.

An image is a folder `images/TARGET-DIGEST` of the cache. The digest is that of the recipe, so another recipe is another
image; the mirror is no part of it, nor are the packages' versions, which lie beside it in packages.txt.
"""

from lab.host.images.build_reporter import BuildReporter
from lab.host.images.building import (
    PROGRAMS,
    BuildOptions,
    PackagesLacking,
    Product,
    build,
    build_once,
    install_packages,
    parse_packages,
    take_kernel,
    tidy,
)
from lab.host.images.disk import make_disk
from lab.host.images.image import (
    Image,
    final_folder,
    images_folder,
    is_current,
    list_images,
    load,
    read_image,
    remove,
    verify,
    verify_files,
    with_files,
)
from lab.host.images.recipe import FILES, mmdebstrap_argv, recipe_digest
from lab.host.images.sandbox import Sandbox, find_sandbox

__all__ = [
    "FILES",
    "PROGRAMS",
    "BuildOptions",
    "BuildReporter",
    "Image",
    "PackagesLacking",
    "Product",
    "Sandbox",
    "build",
    "build_once",
    "final_folder",
    "find_sandbox",
    "images_folder",
    "install_packages",
    "is_current",
    "list_images",
    "load",
    "make_disk",
    "mmdebstrap_argv",
    "parse_packages",
    "read_image",
    "recipe_digest",
    "remove",
    "take_kernel",
    "tidy",
    "verify",
    "verify_files",
    "with_files",
]
