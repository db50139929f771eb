"A card for each published model, with the numbers of the report's tables; cards travel with the weights."
import json, re, tomllib
import nbformat, pytest
from mura_nb.settings import settings
from mura_nb.models import count_parameters, gather, published, table_estimate


@pytest.fixture
def cards(root):
    nb = nbformat.read(root/'nbs'/'14_models.ipynb', 4)
    outputs = [o for c in nb.cells for o in c.get('outputs', []) if 'data' in o]
    text = [o.data['text/markdown'] for o in outputs if 'text/markdown' in o.data]
    return {re.match(r'### Model card (\S+)', t)[1]: t for t in text if t.startswith('### Model card')}


def test_every_published_model_has_one(cards): assert list(cards) == list(published(settings('demo')))


def test_every_card_says_what_it_must(cards):
    for name, text in cards.items():
        wanted = ('not for clinical use', 'simulated radiographs', 'Intended use', 'Training data', 'Evaluation data',
                  'Caveats', 'Ethical considerations', 'sha256', '95 % intervals', 'MURA')
        assert all(w in text for w in wanted), name
        assert re.search(r'phantom-demo|each as its own card says', text) and text.count('```python') == 1


def test_numbers_are_the_tables(cards, root):
    s = settings('demo')
    for name, text in cards.items():
        table, model = ('table1', f'{name}: local') if name == s.local else ('table2', name)
        for m in ('auc', 'accuracy', 'kappa', 'sensitivity', 'specificity', 'brier', 'ece'):
            e = table_estimate(table, out=root/'results'/'demo', model=model, metric=m, group='ALL')
            assert str(e) in text, (name, m)


def test_checksums_are_those_of_the_weights_here(cards, root):
    s = settings('demo')
    for name in [n for n in published(s) if n != 'ensemble']:
        f = root/'results'/'demo'/'models'/f'{name}.json'
        if not f.is_file(): pytest.skip('no trained models of the demo here (make report)')
        assert json.loads(f.read_text())['sha256'] in cards[name]
        assert f'{count_parameters(f.with_suffix(".safetensors")):,} parameters' in cards[name]


def test_loading_lines_are_python(cards):
    for text in cards.values(): compile(re.search(r'```python\n(.*?)```', text, re.S)[1], 'card', 'exec')


def test_another_name_is_an_error_that_helps():
    with pytest.raises(ValueError, match='there is lite0_b16'): gather('resnet51', settings('demo'))
    with pytest.raises(FileNotFoundError): gather('lite0_b16', settings('demo'), '/nowhere')


def test_template_is_packaged(root):
    packed = tomllib.loads((root/'pyproject.toml').read_text())['tool']['setuptools']['package-data']['mura_nb']
    names = {f.name for pattern in packed for f in (root/'mura_nb').glob(pattern)}
    assert 'model_card.md.j2' in names


def test_a_card_of_a_model_whose_radiographs_are_gone(tmp_path):
    from types import SimpleNamespace
    from mura_nb.models import _training_data
    known = dict(train_images=3, train_patients=2)
    model = SimpleNamespace(card=dict(data=known), s=SimpleNamespace(data=tmp_path/'gone'))
    assert _training_data(model) == dict(data=known, train_studies=None)
