"The rendered report: links lead somewhere, nothing is loaded from the network, hidden things are hidden."
import base64, re
import nbformat, pytest
from nbformat.v4 import new_code_cell as code, new_markdown_cell as md, new_notebook, new_output
import render

PNG = base64.b64encode(bytes.fromhex('89504e470d0a1a0a0000000d4948445200000001000000010804000000b51c0c020000000b4944415478da6364f80f00010501012718e3660000000049454e44ae426082')).decode()


def notebooks():
    one = new_notebook(cells=[md('# core\n> What all share.\n\nThe loss is $-w_{T,1}\\,y\\log p$.\n\n$$\\frac{a}{b}$$\n\nSee [next](01_phantom.ipynb#bones).'),
        code('#| hide\nsecret = 1'), code('#| export\ndef double(x): return 2*x'), code('double(2)', outputs=[
            new_output('stream', name='stderr', text='50%|##'), new_output('execute_result', data={'text/plain': '4', 'text/markdown': '| a |\n|--:|\n| 4 |'})])])
    two = new_notebook(cells=[md('# phantom\n> Simulated.\n\n## Bones'), code('#| echo: false\nshow()', outputs=[new_output('display_data', data={'image/png': PNG, 'text/plain': 'Figure'})])])
    return {'00_core': one, '01_phantom': two, 'index': new_notebook(cells=[md('# mura_nb\n\n[core](00_core.ipynb), [settings](../settings.ini)')])}


@pytest.fixture
def site(tmp_path):
    assert render.render_site(notebooks(), tmp_path/'_site', 'Profile smoke, simulated radiographs.') == tmp_path/'_site'/'index.html'
    return tmp_path/'_site'


def dead_links(site):
    "(page, link) of every link inside the site that leads nowhere"
    pages = {f.name: f.read_text() for f in site.glob('*.html')}
    for name, html in pages.items():
        for link in re.findall(r'(?:href|src)="([^"]+)"', html):
            if re.match(r'https?:|data:|mailto:', link): continue
            target, _, anchor = link.partition('#')
            html_of = pages.get(target or name)
            if target and not (site/target).exists() or anchor and html_of is not None and f'id="{anchor}"' not in html_of: yield name, link


def fetched(site):
    "What a browser would fetch from elsewhere on opening a page"
    for f in site.rglob('*.*'):
        if f.suffix not in ('.html', '.css', '.js'): continue
        yield from re.findall(r'<(?:script|link|img|iframe)\b[^>]*(?:src|href)="(?:https?:)?//[^"]*"|@import[^;]+|url\(["\']?https?:[^)]*\)', f.read_text())


def test_links(site): assert list(dead_links(site)) == []
def test_linked_files_go_along(site, root): assert (site/'settings.ini.txt').read_text() == (root/'settings.ini').read_text()
def test_offline(site): assert list(fetched(site)) == []


def test_dead_link_would_be_found(site):
    (site/'x.html').write_text('<a href="gone.html">x</a><a href="core.html#nowhere">y</a>')
    assert sorted(l for _, l in dead_links(site)) == ['core.html#nowhere', 'gone.html']


def test_what_a_page_shows(site):
    core, phantom = (site/'core.html').read_text(), (site/'phantom.html').read_text()
    assert '<title>core' in core and 'Profile smoke, simulated radiographs.' in core and 'not for clinical use' in core
    assert 'secret' not in core and '50%' not in core and '#|' not in core
    assert core.count('<math') == 2 and '$' not in re.sub(r'<script.*?</script>', '', core, flags=re.S)
    assert '<summary>double</summary>' in core and '<table>' in core
    assert 'href="phantom.html#bones"' in core
    assert re.search(r'<a [^>]*href="phantom.html"[^>]*rel="next"', core) and re.search(r'<a [^>]*href="core.html"[^>]*rel="prev"', phantom)
    assert 'data:image/png;base64,' in phantom and 'show()' not in phantom


def test_pictures_beside_the_notebooks_are_embedded(tmp_path, monkeypatch):
    monkeypatch.setattr(render, 'ROOT', tmp_path)
    (tmp_path/'results').mkdir()
    (tmp_path/'results'/'f.png').write_bytes(base64.b64decode(PNG))
    nb = new_notebook(cells=[md('# x\n\n![a](../results/f.png) ![b](../results/gone.png) ![c](../../secret.png)')])
    html = render.render_site({'index': nb}, tmp_path/'_site', '').read_text()
    assert f'src="data:image/png;base64,{PNG}"' in html and html.count('data:image') == 1 and 'src="../results/gone.png"' in html


def test_rendered_again_replaces_as_a_whole(site):
    (site/'old.html').write_text('')
    render.render_site(notebooks(), site, '')
    assert not (site/'old.html').exists() and not list(site.parent.glob('.site-*'))


def test_last_report(root):
    "The report that lies in _site, if there is one"
    if not (root/'_site').exists(): pytest.skip('no report rendered here yet')
    assert list(dead_links(root/'_site')) == [] and list(fetched(root/'_site')) == []
