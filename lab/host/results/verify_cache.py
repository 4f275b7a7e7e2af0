"""What a run was made of: the images, kernels and boxes of its manifest, as far as the cache still has them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from lab.core.errors import LabError
from lab.core.manifest import Layer, Target
from lab.host import images
from lab.host.images import boxes
from lab.host.kernels.bundle import bundles_of
from lab.host.results.checked import DIFFERS, NOTE, OK, Checked, problem_of


def check_cache(targets: Iterable[Target]) -> Iterator[Checked]:
    """The images, kernels and boxes that a manifest's targets name, as far as the cache still has them."""
    seen: set[object] = set()
    for target in targets:
        files = tuple(sorted((target.image_sha256s or {}).items()))
        for name, key, check in (
            (target.image, ("image", target.image, files), _cached_image),
            (target.kernel_digest, ("kernel", target.kernel_digest), _cached_kernel),
            (target.box_sha256, ("box", target.box_sha256), _cached_box),
        ):
            if name is not None and key not in seen:
                seen.add(key)
                yield from check(target)
        for layer in target.layers:
            key = ("image", layer.image, tuple(sorted((layer.image_sha256s or {}).items())))
            if layer.image is not None and key not in seen:
                seen.add(key)
                yield from _cached_image(layer)


def _cached_image(target: Target | Layer) -> Iterator[Checked]:
    image = images.with_files(target.image_sha256s) if target.image_sha256s is not None else None
    if image is None:
        yield Checked(NOTE, f"image {target.image}", "the one that was used is not in the cache")
    else:
        yield from _cached_files(f"image {image.name}", image.directory, image.sha256s)


def _cached_kernel(target: Target) -> Iterator[Checked]:
    bundle = next(bundles_of(str(target.kernel_digest)), None)
    if bundle is None:
        yield Checked(NOTE, f"kernel {target.kernel_path}", "is not in the cache")
    else:
        yield from _cached_files(f"kernel {bundle.release}", bundle.directory, bundle.sha256s)


def _cached_box(target: Target) -> Iterator[Checked]:
    try:
        box = next((built for built in boxes.list_boxes() if built.sha256 == target.box_sha256), None)
    except LabError:
        box = None
    if box is None:
        yield Checked(NOTE, f"box {target.box}", "is not in the cache")
    else:
        yield from _cached_files(f"box {box.name}", box.directory, {box.file.name: box.sha256})


def _cached_files(what: str, folder: Path, sha256s: Mapping[str, str]) -> Iterator[Checked]:
    good = 0
    for name, expected in sha256s.items():
        problem = problem_of(folder / name, expected)
        good += problem is None
        if problem is not None:
            yield Checked(DIFFERS, f"{what}: {folder / name}", problem)
    yield Checked(OK, what, f"{good} of {len(sha256s)} files are as they were used", good)
