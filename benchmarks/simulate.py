"""How fast are radiographs simulated, beside the least that their arithmetic takes?

What no simulation of this kind can do without is compiled already: rays through meshes, random numbers, filters,
resizing and PNG. While some studies are simulated these calls are written down with what they were given; then they
alone are carried out again. The share of the whole that they take is the ratio: at 1 nothing but them would be
left. One process."""
import io
from contextlib import ExitStack
from unittest.mock import patch
from bench import paired, row, save, small
import numpy as np, scipy
from PIL import Image
from mura_nb import camera, skeleton
from mura_nb.core import STUDY_TYPES
from mura_nb.phantom import example_study

SIZE, KINDS = small(512, 64), STUDY_TYPES[:small(7, 1)]
FILTERS = 'gaussian_filter', 'distance_transform_edt', 'zoom', 'map_coordinates'


def studies():
    "A study with an abnormality and a normal one of each type, as PNG; how many images"
    shots = [s for k, kind in enumerate(KINDS) for what in ('fracture', '')
             for s in example_study(kind, what, 10 + k, views=small(2, 1), size=SIZE)[0]]
    for shot in shots: Image.fromarray(shot.image).save(io.BytesIO(), 'PNG', compress_level=3)
    return len(shots)


def recorded():
    "The calls of the compiled parts while `studies` runs: functions without arguments"
    calls = []
    def noted(f):
        def call(*args, **kwargs):
            calls.append(lambda: f(*args, **kwargs))
            return f(*args, **kwargs)
        return call
    with ExitStack() as borrowed:
        for room in (camera, skeleton):
            borrowed.enter_context(patch.object(room, 'scan_mesh', noted(skeleton.scan_mesh)))
        for name in FILTERS:
            borrowed.enter_context(patch.object(scipy.ndimage, name, noted(getattr(scipy.ndimage, name))))
        borrowed.enter_context(patch.object(Image.Image, 'save', noted(Image.Image.save)))
        n = studies()
    rng, pixels = np.random.default_rng(0), SIZE*SIZE*3//4
    calls += [lambda: rng.standard_normal(pixels, np.float32)]*3*n  # two patterns and the quanta of each image
    return calls, n


def main():
    calls, n = recorded()
    def least():
        for call in calls: call()
    times = paired(studies, least, pairs=5)
    found = row('simulated radiographs, one process', times, 'rays, random numbers, filters and PNG alone', work=n,
        unit='images/s', count=SIZE)
    save('simulate', [found])


if __name__ == '__main__': main()
