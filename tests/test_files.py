"Files are whole or absent, whatever happens while they are written."
import json, os, stat, threading
import pandas as pd, pytest
from mura_nb.core import write_atomic
from mura_nb.results import load_table, save_table


@pytest.mark.parametrize('error', [KeyboardInterrupt, SystemExit, OSError])
def test_nothing_is_left_of_an_interrupted_file(tmp_path, error):
    with pytest.raises(error), write_atomic(tmp_path/'a.csv') as tmp:
        tmp.write_text('half')
        raise error()
    assert os.listdir(tmp_path) == []


def test_others_may_read_it(tmp_path):
    before = os.umask(0o022)
    try:
        with write_atomic(tmp_path/'a.csv') as tmp: tmp.write_text('x')
    finally: os.umask(before)
    assert stat.S_IMODE((tmp_path/'a.csv').stat().st_mode) == 0o644


def test_writers_at_once_leave_one_whole_file(tmp_path):
    def write(i):
        with write_atomic(tmp_path/'a.json') as tmp: tmp.write_text(json.dumps([i]*5000))
    ts = [threading.Thread(target=write, args=(i,)) for i in range(8)]
    for t in ts: t.start()
    for t in ts: t.join()
    assert len(set(json.loads((tmp_path/'a.json').read_text()))) == 1 and os.listdir(tmp_path) == ['a.json']


def test_table_keeps_intervals_and_named_index(tmp_path):
    df = pd.DataFrame(dict(auc=['.853 [.812, .889]', '–'], n=[3, 0]), index=pd.Index(['ELBOW', 'ALL'], name='type'))
    save_table(df, 't', tmp_path)
    assert load_table('t', tmp_path).set_index('type').equals(df)
