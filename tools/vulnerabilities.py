"""make vulnerabilities: which are known of packages of the lock file? Asks PyPI through pip-audit, which uv fetches.

Exit status 1 where one is known that is not in KNOWN below; where there is no answer that is said, and it is 0."""
import json, shutil, subprocess, sys
from pathlib import Path

LOCK = Path(__file__).resolve().parents[1]/'requirements.lock'
PIP_AUDIT = 'pip-audit==2.10.1'
KNOWN = {} # identifier of a vulnerability that does not matter here -> why
UNKNOWN = 'not reachable, not checked'

def ask(lock=LOCK):
    "What pip-audit answers: a row a package, and why there is none"
    if not shutil.which('uv'): return [], 'uv is not installed'
    command = ['uvx', '--quiet', PIP_AUDIT, '-r', str(lock), '--disable-pip', '--require-hashes', '-f', 'json']
    try: r = subprocess.run(command, capture_output=True, text=True, timeout=600)
    except subprocess.TimeoutExpired: return [], 'no answer within ten minutes'
    try: return json.loads(r.stdout)['dependencies'], ''
    except (ValueError, KeyError): return [], (r.stderr.strip().splitlines() or ['no answer'])[-1][:200]

def verdict(rows, why):
    "(exit status, lines to say)"
    asked = [row for row in rows if 'vulns' in row]
    if not asked: return 0, [f"vulnerabilities: {UNKNOWN} ({why or 'the registry has no list of them'})"]
    found = [(row['name'], row['version'], v) for row in asked for v in row['vulns']]
    new = [f for f in found if not {f[2]['id'], *f[2].get('aliases', [])} & KNOWN.keys()]
    def mended(v): return ', '.join(v['fix_versions']) or 'no version yet'
    lines = [f"{name} {version}: {v['id']}, mended in {mended(v)}" for name, version, v in new]
    left = f'; {len(rows) - len(asked)} {UNKNOWN}' if len(rows) > len(asked) else ''
    return bool(new), [*lines, f'vulnerabilities: {len(new)} new ones known of {len(asked)} packages{left}']

def main():
    status, lines = verdict(*ask())
    print('\n'.join(lines))
    return status

if __name__ == '__main__': sys.exit(main())
