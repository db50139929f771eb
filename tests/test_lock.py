"The lock file installs anywhere: no address of a registry or of this machine, every package of pyproject.toml."

import re, tomllib
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name as canonical


HASH = r'[ \\]*\n    --hash=sha256:([0-9a-f]{64})'


def pinned(root):
    "(requirement, its hashes) of every package"
    text = (root / 'requirements.lock').read_text()
    found = re.findall(rf'^(\w[^\\\n]*)((?:{HASH})*)', text, re.M)
    return [(Requirement(r), re.findall(HASH, hashes)) for r, hashes, _ in found]


def lock(root):
    return [requirement for requirement, _ in pinned(root)]


def test_no_addresses(root):
    text = re.sub(HASH, '', (root / 'requirements.lock').read_text())
    assert not re.search(r'://|^\s*-|\s@\s|\bfile:|(^|\s)/\w', text, re.M)


def test_every_package_has_hashes(root):
    "And whatever installs them asks for them"
    assert not [r.name for r, hashes in pinned(root) if not hashes] and len(lock(root)) > 200
    installs = [l for l in (root / 'Makefile').read_text().splitlines() if '-r requirements.lock' in l]
    assert len(installs) >= 2 and all('--no-deps --require-hashes -r' in l for l in installs)


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
