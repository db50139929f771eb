"Licences and dependencies: known vulnerabilities, the bill of materials, licences."
import importlib.util, json
import pytest
from packaging.utils import canonicalize_name as canonical
import test_lock


@pytest.fixture
def vulnerabilities(root):
    "tools/vulnerabilities.py"
    spec = importlib.util.spec_from_file_location('vulnerabilities', root/'tools'/'vulnerabilities.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


CLEAN = dict(name='numpy', version='2.5.5', vulns=[])
HOLE = dict(id='PYSEC-2019-217', aliases=['CVE-2019-10906'], fix_versions=['2.10.1'])
BAD = dict(name='jinja2', version='2.10', vulns=[HOLE])
SKIPPED = dict(name='torch', skip_reason='Dependency not found on PyPI and could not be audited')


def test_a_known_vulnerability_fails(vulnerabilities):
    status, lines = vulnerabilities.verdict([CLEAN, BAD], '')
    assert status and lines == ['jinja2 2.10: PYSEC-2019-217, mended in 2.10.1',
                                'vulnerabilities: 1 new ones known of 2 packages']


def test_one_that_does_not_matter(vulnerabilities, monkeypatch):
    monkeypatch.setattr(vulnerabilities, 'KNOWN', {'CVE-2019-10906': 'no templates of others'})
    assert vulnerabilities.verdict([CLEAN, BAD], '') == (False, ['vulnerabilities: 0 new ones known of 2 packages'])


@pytest.mark.parametrize('rows, why, words', [
    ([], 'no answer within ten minutes', 'not reachable, not checked (no answer within ten minutes)'),
    ([SKIPPED], '', 'not reachable, not checked (the registry has no list of them)'),
    ([SKIPPED, CLEAN], '', '0 new ones known of 1 packages; 1 not reachable, not checked')])
def test_no_answer_is_said_and_fails_nothing(vulnerabilities, rows, why, words):
    status, lines = vulnerabilities.verdict(rows, why)
    assert not status and lines == [f'vulnerabilities: {words}']


def test_no_uv(vulnerabilities, monkeypatch):
    monkeypatch.setattr(vulnerabilities.shutil, 'which', lambda name: None)
    assert vulnerabilities.ask() == ([], 'uv is not installed')


# where `make sbom` runs
SYSTEM = dict(sys_platform='linux', platform_system='Linux', os_name='posix', platform_machine='x86_64',
              python_version='3.11', python_full_version='3.11.9', implementation_name='cpython')


def test_the_bill_of_materials_is_that_of_the_lock_file(root):
    "make sbom after make lock"
    bill = json.loads((root/'sbom.json').read_text())
    assert bill['bomFormat'] == 'CycloneDX' and bill['metadata']['component']['name'] == 'mura_nb'
    listed = {(canonical(c['name']), c['version']) for c in bill['components']}
    here = [r for r in test_lock.lock(root) if not r.marker or r.marker.evaluate(SYSTEM)]
    assert listed == {(canonical(r.name), next(iter(r.specifier)).version) for r in here}, 'run make sbom'


def test_the_bill_names_no_file_of_a_machine(root):
    text = (root/'sbom.json').read_text()
    assert 'file:' not in text and '/tmp' not in text and '"serialNumber"' not in text and '"timestamp"' not in text
