"Running chapters: flags, stored outputs, progress on standard error, failure, interruption."

import os, re, signal, subprocess, sys, time
from pathlib import Path
import nbformat, pytest
from nbformat.v4 import new_code_cell as code, new_notebook, new_output
import runner


def stored(source, text='stored'):
    return code(source, outputs=[new_output('stream', text=text)])


@pytest.fixture(scope='module')
def done(tmp_path_factory):
    "One notebook run once, seen by the tests below"
    nb = new_notebook(
        cells=[
            code('import sys, os\nfor i in range(2): print("step", i, file=sys.stderr)\nprint("seen")\n"value"'),
            code('#| slow\nprint("trained")'),
            stored('#| ablation\nprint("new")'),
            stored('#| cuda\n1/0'),
            stored('#| eval: false\n1/0'),
            code('print("a"); print("b"); display("c")'),
            code('print(os.environ["WHERE"], os.getcwd())'),
        ]
    )
    said, cwd = [], tmp_path_factory.mktemp('cwd')
    runner.run_notebook(nb, cwd, ['slow'], True, dict(WHERE='here'), on_stderr=said.append)
    return [''.join(o.get('text') or o['data']['text/plain'] for o in c.outputs) for c in nb.cells], ''.join(said), cwd


def test_flags_and_stored_outputs(done):
    assert done[0][1:5] == ['trained\n', 'stored', 'stored', 'stored']


def test_stderr_is_forwarded_and_not_stored(done):
    assert 'step 1' in done[1] and done[0][0] == "seen\n'value'"


def test_a_sentence_without_its_row_does_not_end_the_report(tmp_path): # chosen otherwise by another training
    nb = new_notebook(cells=[code('#| demo\n{}["the row"]'), code('"and on"')])
    runner.run_notebook(nb, tmp_path, ['demo'])
    assert nb.cells[0].outputs[0].data['text/markdown'] == runner.LACKING and nb.cells[0].execution_count is None
    assert nb.cells[1].outputs[0].data['text/plain'] == "'and on'"


def test_a_sentence_that_is_wrong_itself_ends_the_report(tmp_path): # whatever the tables hold
    with pytest.raises(runner.CellError, match='NameError'):
        runner.run_notebook(new_notebook(cells=[code('#| demo\nmisspelt')]), tmp_path, ['demo'])


def test_the_report_and_the_tests_leave_out_the_same_cells(root):
    from nbdev.config import get_config
    assert runner.FLAGS == set(get_config(root).tst_flags.split())


def test_streams_are_joined(done):
    assert done[0][5] == "a\nb\n'c'"


def test_folder_and_environment(done):
    assert done[0][6] == f'here {done[2].resolve()}\n'


def test_one_study_by_its_name():
    cells = [code(f'#| {flag}\n1') for flag in ('ablation seeds', 'ablation crops', 'slow', 'ablation')]
    left_out = lambda *run: [runner.skipped(c, run) for c in cells]
    assert left_out('slow', 'ablation:seeds') == [False, True, False, True]
    assert left_out('slow', 'ablation') == [False]*4 and left_out('slow') == [True, True, False, True]


def test_every_study_has_a_name():
    cells = [c for f in runner.chapters() for c in nbformat.read(f, 4).cells if c.cell_type == 'code']
    assert all(runner.study_of(c) for c in cells if 'ablation' in runner.directives(c))


ORPHAN = '''import sys, nbformat
sys.path.insert(0, {tools!r})
import kernels, runner
kernels.HEAVY = []
text = "import os, time\\nopen('pid', 'w').write(str(os.getpid()))\\ntime.sleep(600)"
if __name__ == '__main__':
    nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(text)])
    runner.run_notebook(nb, {folder!r})
'''


@pytest.mark.skipif(sys.platform != 'linux', reason='kernels are forked on Linux only')
def test_a_kernel_does_not_outlive_a_report_that_is_killed(tmp_path, root):
    (tmp_path/'run.py').write_text(ORPHAN.format(tools=str(root/'tools'), folder=str(tmp_path)))
    run, pid = subprocess.Popen([sys.executable, str(tmp_path/'run.py')]), tmp_path/'pid'
    end = time.time() + 120
    while not (pid.exists() and pid.read_text()): assert time.time() < end and run.poll() is None
    run.kill()
    run.wait()
    kernel = Path(f'/proc/{pid.read_text()}')
    while kernel.exists() and ' Z ' not in (kernel/'stat').read_text(): assert time.time() < end


def test_minutes_are_written_whole_or_not_at_all(tmp_path, monkeypatch):
    from types import SimpleNamespace
    import report
    s = SimpleNamespace(results=tmp_path/'results')
    (m := report.Minutes(s, tmp_path)).add('04_a', 120, True)
    before = (tmp_path/'minutes.json').read_text()
    monkeypatch.setattr(os, 'replace', lambda *a: (_ for _ in ()).throw(KeyboardInterrupt)) # stopped while it writes
    with pytest.raises(KeyboardInterrupt): m.add('05_b', 60, True)
    assert (tmp_path/'minutes.json').read_text() == before


def test_minutes_of_a_stopped_report_add_up(tmp_path):
    import report
    from types import SimpleNamespace
    s = SimpleNamespace(results=tmp_path / 'results', source=None)
    report.Minutes(s, tmp_path).add('04_a', 120, False) # stopped
    model = tmp_path / 'results' / 'models' / 'a.safetensors'
    model.parent.mkdir(parents=True)
    model.touch()
    report.Minutes(s, tmp_path).add('04_a', 60, True)
    (m := report.Minutes(s, tmp_path)).add('04_a', 6, True)
    m.save()
    t = report.pd.read_csv(tmp_path / 'results' / 'tables' / 'report_minutes.csv')
    assert t.to_dict('records') == [dict(chapter='04_a', first=3., again=.1)]
    (tmp_path / 'minutes.json').unlink() # from kept results, and nothing is known of the first run
    (m := report.Minutes(s, tmp_path)).add('04_a', 12, True)
    assert m.rows['04_a']['again'] == .2 and not m.rows['04_a']['first']


def test_failure_names_the_cell(tmp_path):
    nb = new_notebook(
        cells=[
            code('x = 1'),
            stored('#| ablation\n1'),
            code('raise ValueError("no such bone")'),
            code('print("never")'),
        ]
    )
    with pytest.raises(runner.CellError, match='no such bone') as e:
        runner.run_notebook(nb, tmp_path, keep=False)
    assert e.value.cell == 2 and nb.cells[1].outputs == [] and nb.cells[3].outputs == []


def test_the_error_in_one_line_names_no_folder_of_the_machine(tmp_path):
    cell = f'raise OSError("""\x1b[31m{tmp_path}/deep/x.csv: not `there`\nand {runner.ROOT}/nbs/a; see https://a.org/b/c""")'
    with pytest.raises(runner.CellError) as e:
        runner.run_notebook(new_notebook(cells=[code(cell)]), tmp_path)
    assert e.value.line == "OSError: x.csv: not 'there' and nbs/a; see https://a.org/b/c"


@pytest.fixture
def report(tmp_path, monkeypatch):
    """tools/report.py on three tiny chapters and an index, the second of which fails and with it the third; what it
    said to a terminal that is none is in `report.said()`"""
    import io
    import report
    from types import SimpleNamespace
    from rich.console import Console

    chapters = {
        '00_one': [code('import os\nopen("one.csv", "w").close()\nprint("made", os.environ["PYTHONPATH"])')],
        '01_two': [
            stored('#| hide\nprint("before"); open("/nowhere/at/all/two.csv")'),
            stored('print("after")'),
        ],
        '02_three': [code('open("one.csv"); open("two.csv")')],
        'index': [code('print("the end")')],
    }
    for name, cells in chapters.items():
        heading = nbformat.v4.new_markdown_cell(f'# {name}\n> About {name}.')
        nbformat.write(new_notebook(cells=[heading, *cells]), tmp_path / f'{name}.ipynb')
    written = {f: f.read_bytes() for f in tmp_path.glob('*.ipynb')}
    said = io.StringIO()
    monkeypatch.setenv('PYTHONPATH', os.pathsep.join([str(runner.ROOT), '/more'])) # a chapter sees what report does
    monkeypatch.setattr(report, 'ROOT', tmp_path)
    monkeypatch.setattr(report, 'console', Console(file=said, width=60))
    monkeypatch.setattr(report, 'chapters', lambda: runner.chapters(tmp_path))
    settings = SimpleNamespace(simulated=True, profile='demo', results=tmp_path / 'results', data=None, source=None)
    monkeypatch.setattr(report, 'settings', lambda: settings)
    monkeypatch.setattr(signal, 'signal', lambda *args: None) # pytest's own handler stays

    def run(*args):
        monkeypatch.setattr(sys, 'argv', ['report.py', *args])
        return report.main()

    return SimpleNamespace(run=run, said=said.getvalue, root=tmp_path, written=written)


def test_a_chapter_that_fails_leaves_the_others_and_its_own_beginning(report):
    assert report.run('--save') == 1
    said = report.said()
    assert '2 of 4 chapters failed' in said and 'nothing saved' in said
    last = said[said.index('chapters failed') :]
    first, second = re.findall(r'^  (\w+), cell (\d+): FileNotFoundError: (.*)', last, re.M)
    assert first[:2] == ('01_two', '1') and "'two.csv'" in first[2] and 'needs what' not in first[2]
    assert second[:2] == ('02_three', '1') and second[2].endswith('(needs what a failed chapter before it writes)')
    assert {f: f.read_bytes() for f in report.written} == report.written, '--save saves all or nothing'
    two = nbformat.read(report.root / '_build' / 'demo' / '01_two.ipynb', 4)
    nbformat.validate(two)
    assert [len(c.get('outputs', ())) for c in two.cells] == [0, 1, 0, 0] and two.cells[1].outputs[0].text == 'before\n'
    pages = {f.stem: f.read_text() for f in (report.root / '_site').glob('*.html')}
    box = re.search(r'<div class="callout-important stopped">(.*?)</div>', pages['two'], re.S)[1]
    assert 'This chapter stopped here' in box and 'two.csv' in box and '/nowhere' not in pages['two'] + pages['index']
    assert 'made' in pages['one'] and 'the end' in pages['index'] and 'stopped here' not in pages['one']
    for name, html in pages.items(): # the list of pages marks both everywhere, the first page says why
        marked = re.findall(r'<a href="(\w+).html"[^>]*>(?:(?!</a>).)*<b class="stop">stopped</b>', html)
        assert marked == ['two', 'three'], name
        assert ('This run is not complete' in html) == (name == 'index')
    taken = nbformat.read(report.root / '_site' / 'notebooks' / '01_two.ipynb', 4)
    assert len(taken.cells) == 3 and 'stopped' not in taken.metadata
    for f in report.written:
        f.unlink()
    assert report.run('--render') == 0, 'what was run is rendered again, without running'
    assert 'stopped here' in (report.root / '_site' / 'two.html').read_text()


def test_all_chapters_pass(report):
    for name in ('01_two', '02_three'):
        (report.root / f'{name}.ipynb').unlink()
    assert report.run('--save') == 0 and 'failed' not in report.said()
    (out,) = nbformat.read(report.root / '00_one.ipynb', 4).cells[1].outputs
    assert out.text == f'made {report.root}:{runner.ROOT}:/more\n'


def test_findings_of_the_demo_are_left_out_with_their_sentences(tmp_path):
    "They are true of the demo alone: elsewhere not even what was stored is shown"
    for keep in (True, False):
        nb = runner.run_notebook(
            new_notebook(cells=[stored('#| demo\n1/0'), stored('#| slow\n1/0')]), tmp_path, keep=keep
        )
        assert [len(c.outputs) for c in nb.cells] == [0, keep]
    nb = runner.run_notebook(new_notebook(cells=[stored('#| demo\nprint("new")')]), tmp_path, ['demo'])
    assert nb.cells[0].outputs[0].text == 'new\n' and nb.cells[0].execution_count is None


def test_dead_kernel_is_an_error_not_a_wait(tmp_path):
    with pytest.raises(runner.CellError, match='kernel died'):
        runner.run_notebook(new_notebook(cells=[code('import os; os._exit(9)')]), tmp_path)


def test_ctrl_c_lets_the_cell_clean_up_and_leaves_no_process(tmp_path):
    cell = 'import os, time\nopen("pid", "w").write(str(os.getpid()))\n'
    cell += 'try: time.sleep(60)\nfinally: open("tidy", "w").close()'
    script = f'import sys; sys.path.insert(0, {str(runner.ROOT / "tools")!r})\nimport runner\n'
    script += 'from nbformat.v4 import *\n'
    script += f'runner.run_notebook(new_notebook(cells=[new_code_cell({cell!r})]), {str(tmp_path)!r})'
    heard = lambda: signal.signal(
        signal.SIGINT, signal.SIG_DFL
    )  # a shell's background job, and so what it starts, ignores it
    p = subprocess.Popen([sys.executable, '-c', script], stderr=subprocess.DEVNULL, preexec_fn=heard)
    end = time.time() + 60
    while not (tmp_path / 'pid').exists() and time.time() < end:
        time.sleep(0.2)
    time.sleep(0.5)
    p.send_signal(signal.SIGINT)
    assert p.wait(30) != 0
    assert (tmp_path / 'tidy').exists()
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / 'pid').read_text()), 0)


def test_order(tmp_path):
    for n in 'index', '10_programs', '00a_skeleton', '02_data', '00_core', '_draft':
        (tmp_path / f'{n}.ipynb').touch()
    assert [f.stem for f in runner.chapters(tmp_path)] == ['00_core', '00a_skeleton', '02_data', '10_programs', 'index']


def test_committed_notebooks_carry_no_stderr_and_no_errors(root):
    for f in runner.chapters():
        for c in nbformat.read(f, 4).cells:
            for o in c.get('outputs', []):
                assert o.output_type != 'error' and o.get('name') != 'stderr', f'{f.name}: {c.id}'


def test_expected_failures_are_looked_at(root):
    "expect_fail is a context manager: called like a function it would check nothing"
    for f in sorted((root / 'nbs').glob('*.ipynb')):
        for c in nbformat.read(f, 4).cells:
            if c.cell_type == 'code':
                assert all(re.match(r'\s*with ', l) for l in c.source.splitlines() if 'expect_fail(' in l), (
                    f'{f.name}, {c.id}'
                )


def test_no_folder_of_a_machine_in_kept_outputs(root):
    for f in sorted((root / 'nbs').glob('*.ipynb')):
        for c in nbformat.read(f, 4).cells:
            for o in c.get('outputs', []):
                text = o.get('text', '') + ''.join(
                    str(v) for k, v in o.get('data', {}).items() if not k.startswith('image/')
                )
                assert str(root) not in text and not re.search(r'(?<![\w.])/(tmp|home|root|work|Users)/', text), (
                    f'{f.name}, {c.id}'
                )
