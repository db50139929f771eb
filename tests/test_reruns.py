"The tool behind nbs/16b_reruns: two runs in a copy of the tree, each from nothing, compared file by file."
from contextlib import contextmanager
import pandas as pd
import reruns as tool
from mura_nb.reruns import load_reruns


def test_two_runs_from_nothing(tmp_path, monkeypatch):
    runs = []

    @contextmanager
    def copied():
        (tmp_path/'tree').mkdir()
        yield tmp_path/'tree'

    def run(mode, stems, cwd):
        assert (mode, stems) == ('--run', '01_a 02_b') and not [f for f in cwd.rglob('*') if f.is_file()]
        runs.append(len(runs))
        for f, text in {'results/smoke/tables/t.csv': 'auc,seconds\n.7,{}\n', 'results/smoke/p.csv': 'x\n1\n',
                        'results/smoke/.report.lock': '{}', 'data/d.png': '{}', '.cache/c': '{}'}.items():
            (cwd/f).parent.mkdir(parents=True, exist_ok=True)
            (cwd/f).write_text(text.format(len(runs)))
        (cwd/'_build').mkdir()

    monkeypatch.setattr(tool, 'copied', copied)
    monkeypatch.setattr(tool, 'in_child', run)
    monkeypatch.setattr(tool, 'OUT', tmp_path/'out')
    tool.twice('01_a 02_b')
    t = pd.read_csv(tmp_path/'out'/'tables'/'twice.csv')
    assert t.file.tolist() == ['p.csv', 'tables/t.csv'] and t.equal.tolist() == [True, False]
    assert t.differs[1] == 'seconds' and t.times.tolist() == [False, True] and runs == [0, 1]
    assert set(t.chapters) == {'01_a, 02_b'} and 'pillow' in t.machine[0]


def test_the_kept_tables_bear_out_the_promise():
    twice, kernels = load_reruns('twice'), load_reruns('processors')
    assert len(twice) > 50 and (twice.equal | twice.times).all() and twice.equal.sum() > 50
    same, networks = kernels[kernels.setting == 'the same again'], kernels[kernels.unit == 'probability']
    assert (same.equal == 1).all() and (networks.largest < 1e-4).all() and (kernels.kernels.nunique() > 3)
