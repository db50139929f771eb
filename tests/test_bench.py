"The programs of benchmarks/: each writes its rows, all of them small here; a run that was stopped goes on."

import os, subprocess, sys
import numpy as np, pandas as pd, pytest
from conftest import ROOT

BENCH = ROOT/'benchmarks'
ALL = '''
import importlib, sys
sys.path.insert(0, sys.argv[1])
import run
for name in run.PROGRAMS: importlib.import_module(name).main()
'''


@pytest.fixture
def bench(tmp_path, monkeypatch):
    "The shared module, which writes below tmp_path"
    monkeypatch.syspath_prepend(str(BENCH))
    monkeypatch.setenv('MURA_BENCH_OUT', str(tmp_path))
    monkeypatch.setenv('MURA_NB_PROFILE', 'smoke')
    monkeypatch.setenv('TQDM_DISABLE', '1')
    import bench
    return bench


@pytest.fixture(scope='module')
def table(tmp_path_factory):
    "Rows of all programs, each with the smallest sizes"
    out = tmp_path_factory.mktemp('bench')
    minutes = out/'minutes.csv'
    minutes.write_text('chapter,first,again\n01_phantom,1,.1\n16_speed,40,2\n')
    env = dict(os.environ, MURA_BENCH='tiny', MURA_BENCH_OUT=str(out), MURA_BENCH_MINUTES=str(minutes),
               MURA_NB_PROFILE='smoke', OMP_NUM_THREADS='1', PYTHONPATH=str(ROOT), PYTHONWARNINGS='ignore')
    done = subprocess.run([sys.executable, '-c', ALL, str(BENCH)], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return pd.read_csv(out/'bench.csv')


def test_each_program_writes_its_rows(bench, table):
    import run
    assert list(table) == bench.COLUMNS and set(table.program) == set(run.PROGRAMS)
    numbers = table[['ours', 'peer', 'ratio', 'low', 'high']].to_numpy()
    assert np.isfinite(numbers).all() and (numbers > 0).all() and (table.low <= table.high).all()
    assert table[['threads', 'machine', 'versions', 'date', 'key']].notna().all(axis=None)


def test_each_row_is_shown_with_what_limits_it(table):
    from mura_nb.speed import QUESTIONS, bench_table, growth_table
    shown = bench_table(table).df
    assert set(QUESTIONS) == set(table.program) - {'growth'} and (shown['limited by'] != '').all()
    assert len(shown) == (table.program != 'growth').sum() and len(growth_table(table).df) == 7


def test_turns_change_from_pair_to_pair(bench):
    told = []
    times = bench.paired(lambda: told.append('ours'), lambda: told.append('other'), pairs=3, warmup=0)
    assert told == ['ours', 'other', 'other', 'ours', 'ours', 'other'] and times.shape == (3, 2)


def test_a_row_by_hand(bench):
    times = np.array([[1., 2], [1, 3], [2, 2]])
    r = bench.row('q', times, 'other', 1.5, work=10, unit='images/s')
    assert (r['ours'], r['peer'], r['ratio'], r['low'], r['high'], r['pairs']) == (10, 5, 2, 1.5, 2.5, 3)
    r = bench.row('q', times, 'other', work=(10, 5), unit='images/s')  # they did half as much in that time
    assert (r['peer'], r['ratio']) == (2.5, 4)
    assert bench.row('q', times, 'other')['ours'] == 1
    assert bench.plain_row('q', 2, 'at most', 3, unit='s')['ratio'] == 1.5


def test_a_stopped_run_goes_on(bench, monkeypatch):
    import run
    asked = []
    class Done: returncode = 0
    monkeypatch.setattr(run.subprocess, 'run', lambda command, env: asked.append(command[-1]) or Done)
    monkeypatch.setattr(bench, 'version', lambda package: '1')
    rows = [bench.plain_row('q', 2, 'at most', 3, unit='s')]
    for name in run.PROGRAMS[:3]: bench.save(name, rows)
    bench.save(run.PROGRAMS[0], rows)
    assert len(bench.read_table()) == 3
    run.main([])
    assert [os.path.basename(a) for a in asked] == [f'{n}.py' for n in run.PROGRAMS[3:]]
    asked.clear()
    run.main([run.PROGRAMS[0]])
    assert len(asked) == 1  # named: once more
    monkeypatch.setattr(bench, 'version', lambda package: '2')
    asked.clear()
    run.main([])
    assert len(asked) == len(run.PROGRAMS)  # other versions


def test_unknown_programs_and_failures_are_told(bench, monkeypatch):
    import run
    with pytest.raises(SystemExit, match="no program 'chess'; there are shell"): run.main(['chess'])
    class Done: returncode = 1
    monkeypatch.setattr(run.subprocess, 'run', lambda command, env: Done)
    with pytest.raises(SystemExit, match='failed: shell'): run.main(['shell'])


def test_nothing_in_benchmarks_is_left_out(bench):
    import run
    files = {f.stem for f in BENCH.glob('*.py')}
    assert files == {*run.PROGRAMS, *run.LONG, 'bench', 'run', 'million'}
