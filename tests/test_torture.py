"""A short share of make torture, what it rests on, and what it has found."""
import random, subprocess, sys
from pathlib import Path
import numpy as np, pytest
from torture import ended, child, fuzz, kills, mutants


def test_a_few_kills_and_changed_files(root):
    command = [sys.executable, '-m', 'torture', 'kills', 'fuzz', '--tried', '2', '--seed', '1']
    done = subprocess.run(command, cwd=root/'tests', capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


def write_in_place(folder, plan):
    "A step that does as it should not"
    kills.Killer(folder, plan).start()
    (folder/'a.txt').write_text('whole')
    (folder/'b.txt').write_text('whole')


PLANS = [(('open b.txt', 1, 'before'), dict(a='whole')), (('open b.txt', 1, 'empty'), dict(a='whole', b='')),
    (('open a.txt', 1, 'half'), dict(a='wh')), (('open c.txt', 1, 'half'), dict(a='whole', b='whole'))]


@pytest.mark.parametrize('plan, left', PLANS)
def test_killed_at_a_write(tmp_path, plan, left):
    (tmp_path/'work').mkdir()
    how = ended(child(write_in_place, tmp_path/'work', plan), 60)
    assert how == (0 if 'c.txt' in plan[0] else -9)
    assert {f.stem: f.read_text() for f in (tmp_path/'work').iterdir()} == left
    before, after = {}, dict.fromkeys(('a.txt', 'b.txt'), kills.digest(b'whole'))
    bad = [f'{name}.txt' for name, text in left.items() if text != 'whole']
    assert kills.half(kills.contents(tmp_path/'work'), before, after) == bad


def test_breakages_change_what_runs_and_nothing_else():
    source = 'def f(x):\n    "Words"\n    if x > 3: return x + 1\n    return min(x, 2)\n\ndef figure(x): return x*2\n'
    found = [mutants.draw(source, random.Random(i)) for i in range(60)]
    assert found == [mutants.draw(source, random.Random(i)) for i in range(60)]
    assert {m['line'] for m in found} == {3, 4} and len({m['broken'] for m in found}) > 6
    for m in found: compile(m['broken'], 'm', 'exec')
    assert all('x * 2' in m['broken'] and 'Words' in m['broken'] for m in found)


def test_what_loading_must_not_do_is_noted(tmp_path):
    def bad(call):
        noted = fuzz.watch()
        call()
        sys.exit(7 if noted else 0)
    import pickle
    for call, seen in ((lambda: subprocess.run(['true']), 7), (lambda: (tmp_path/'x').write_text(''), 7),
            (lambda: pickle.loads(pickle.dumps(Path('x'))), 7), (lambda: sum([1, 2]), 0)):
        assert ended(child(bad, call), 60) == seen


# -- found by it -------------------------------------------------------------------------------------------------------

@pytest.fixture
def database(tmp_path):
    fuzz.CodeDatabase(tmp_path)
    return tmp_path/'db.hdf5'


def test_a_damaged_database_is_refused_by_name(database):
    from mura_nb.database import Database, DatabaseError
    whole = database.read_bytes()
    assert len(Database(database).nearest(np.zeros(8, np.float32), 3)) == 1 # one study
    for mark in (b'TREE', b'OHDR', b'SNOD', b'HEAP'):
        if mark not in whole: continue
        database.write_bytes(whole.replace(mark, b'xxxx'))
        with pytest.raises(DatabaseError, match='db.hdf5'): Database(database).nearest(np.zeros(8, np.float32), 3)


def test_weights_that_are_none_are_refused(tmp_path):
    from mura_nb.networks import create_body
    (tmp_path/'w.safetensors').write_bytes(b'\x80\x04K\x01.')
    with pytest.raises(ValueError, match='w.safetensors: not a file of weights'):
        create_body('timm:test_efficientnet', str(tmp_path/'w.safetensors'))


CARDS = dict(architecture=['single_logit']), dict(recipe=None), dict(recipe={}), dict(recipe=[1])


@pytest.mark.parametrize('change', CARDS)
def test_a_card_that_makes_no_network_is_refused(tmp_path, change):
    from mura_nb.results import update_card
    card = fuzz.Card(tmp_path)
    update_card(card.file, **change)
    with pytest.raises(ValueError, match='net'): card.load()


def test_a_checkpoint_that_cannot_be_read_is_none(tmp_path):
    from mura_nb.results import ModelFiles
    from mura_nb.training import Resume
    files = ModelFiles('a', tmp_path)
    files.state.parent.mkdir()
    files.state.write_bytes(b'cut off')
    assert not Resume(files, 'key').checkpoint() and not files.state.exists()


# -- breakages that nothing else noticed -------------------------------------------------------------------------------

def test_boxes_of_chance_lie_in_the_view_by_hand():
    import pandas as pd
    from mura_nb.chance import BOX, _placed
    boxes, view = pd.DataFrame([[0, 0, 2, 4]], columns=BOX), np.array([[10., 20., 20., 40.]])
    assert _placed(boxes, view, np.array([[.5, .5]])).tolist() == [[15, 30, 14, 28, 16, 32]]
    assert _placed(boxes, view, np.array([[0., 1.]])).tolist() == [[11, 38, 10, 36, 12, 40]]


@pytest.mark.parametrize('text, box', [('1,2,3,4', (1, 2, 3, 4)), (None, None)])
def test_a_box_of_a_search(text, box):
    from mura_nb.programs import _box
    assert _box(text) == box


@pytest.mark.parametrize('text', ['5,1,3,4', '3,1,3,4', '1,5,3,4', '1,2,3', '1,2,3,4,5', 'a,b,c,d', ''])
def test_no_box_of_a_search(text):
    import typer
    from mura_nb.programs import _box
    with pytest.raises(typer.BadParameter, match='x0 below x1'): _box(text)
