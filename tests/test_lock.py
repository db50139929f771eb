"The lock file installs anywhere: no address of a registry or of this machine, every package of pyproject.toml."

import re, tomllib
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name as canonical


def lock(root):
    return [
        Requirement(l.split(' #')[0])
        for l in (root / 'requirements.lock').read_text().splitlines()
        if l.strip() and not l.lstrip().startswith('#')
    ]


def test_no_addresses(root):
    text = (root / 'requirements.lock').read_text()
    assert not re.search(r'://|^\s*-|\s@\s|\bfile:|(^|\s)/\w', text, re.M)


def test_all_pinned(root):
    assert all(re.fullmatch(r'==[^,*]+', str(r.specifier)) for r in lock(root))


def test_covers_pyproject(root):
    p = tomllib.loads((root / 'pyproject.toml').read_text())['project']
    pins = {}
    for r in lock(root):
        pins.setdefault(canonical(r.name), []).append(next(iter(r.specifier)).version)
    for text in p['dependencies'] + [t for ts in p['optional-dependencies'].values() for t in ts]:
        r = Requirement(text)
        if canonical(r.name) == 'mura-nb':
            continue
        assert canonical(r.name) in pins, f'{r.name}: run make lock'
        assert all(r.specifier.contains(v, prereleases=True) for v in pins[canonical(r.name)]), (
            f'{r.name}: run make lock'
        )


def test_nbdev_is_pinned_exactly(root):
    assert re.search(r'"nbdev==\d', (root / 'pyproject.toml').read_text())
