"Two reports of one profile at once: the second says that it waits, and neither loses what the other wrote."
import os, signal, subprocess, sys, threading, time
import pytest
from mura_nb.results import load_table, save_headline

HOLD = '''
import sys, time
from pathlib import Path
sys.path[:0] = {path}
import report
with report.alone(Path('results')):
    Path('first').touch()
    time.sleep(60)
'''
SECOND = HOLD.replace("Path('first').touch()", "print('in', flush=True)").replace('time.sleep(60)', 'pass')


def start(code, folder):
    code = code.format(path=[p for p in sys.path if p])
    return subprocess.Popen([sys.executable, '-c', code], cwd=folder, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize('end', [signal.SIGTERM, signal.SIGKILL])
def test_the_second_waits_until_the_first_has_ended(tmp_path, end):
    "However it ended"
    first = start(HOLD, tmp_path)
    while not (tmp_path/'first').exists() and first.poll() is None: time.sleep(.05)
    second = start(SECOND, tmp_path)
    assert second.stdout.readline() == 'another report is writing into results; waiting until it has ended\n'
    time.sleep(.3)
    assert second.poll() is None
    os.kill(first.pid, end)
    assert second.communicate(timeout=20)[0] == 'in\n' and second.returncode == 0
    first.wait()


def test_a_folder_that_may_not_be_written(tmp_path):
    import report
    (tmp_path/'file').touch()
    with pytest.raises(OSError), report.alone(tmp_path/'file'/'results'): pass


def test_what_a_killed_writer_left_is_removed_after_a_day(tmp_path):
    import report
    from mura_nb.core import write_atomic
    with write_atomic(tmp_path/'models'/'net.safetensors') as tmp:
        left = tmp.with_name(tmp.name.replace('net', 'gone'))
        left.touch()
        os.utime(left, (0, 0))
        with report.alone(tmp_path): assert tmp.exists() and not left.exists()
    assert {f.name for f in tmp_path.rglob('*') if f.is_file()} == {'net.safetensors', '.report.lock'}


def test_headlines_of_writers_at_once(tmp_path):
    def write(i):
        for j in range(5): save_headline(f'claim{i}', j, n=j, results=tmp_path)
    ts = [threading.Thread(target=write, args=(i,)) for i in range(4)]
    for t in ts: t.start()
    for t in ts: t.join()
    assert dict(load_table('headline', tmp_path)[['claim', 'value']].values) == {f'claim{i}': 4 for i in range(4)}
