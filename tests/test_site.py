"The rendered report: links lead somewhere, pictures are there, nothing is loaded from the network, hidden things are hidden, the search knows the pages."
import base64, json, re
from urllib.parse import unquote
import nbformat, pytest
from nbformat.v4 import new_code_cell as code, new_markdown_cell as md, new_notebook, new_output
import cite, pages, render

PNG = base64.b64encode(bytes.fromhex('89504e470d0a1a0a0000000d4948445200000001000000010804000000b51c0c020000000b4944415478da6364f80f00010501012718e3660000000049454e44ae426082')).decode()


def notebooks():
    one = new_notebook(cells=[md('# core\n> What all share.\n\nThe loss is $-w_{T,1}\\,y\\log p$.\n\n$$\\frac{a}{b}$$\n\nSee [next](01_phantom.ipynb#bones) and `study_type`.'),
        code('#| hide\nsecret = 1'), code('#| export\ndef double(x): return 2*x'), code('double(2)', outputs=[
            new_output('stream', name='stderr', text='50%|##'), new_output('execute_result', data={'text/plain': '4', 'text/markdown': '| a |\n|--:|\n| 4 |'})])])
    two = new_notebook(cells=[md('# phantom\n> Simulated.\n\n## Bones\n\nAs @fig-b and Grad-CAM [@selvaraju2017gradcam] show; `@fig-b` and `[@x]` are code.'),
        code('#| label: fig-a\n#| fig-cap: "One, on simulated radiographs."\n#| fig-alt: "a dot"\n#| echo: false\nshow()', outputs=[new_output('display_data', data={'image/png': PNG, 'text/plain': 'Figure'})]),
        code('#| label: fig-b\n#| fig-cap: "Two."\nnothing()')])
    api = new_notebook(cells=[md('# mura_nb.core\n> x\n\n[study_type](#study_type)'), md('## study_type\n\n[source](../../mura_nb/core.py), [chapter](../00_core.ipynb#code-double)')])
    return {'00_core': one, '01_phantom': two, 'index': new_notebook(cells=[md('# mura_nb\n\n[core](00_core.ipynb), [settings](../settings.ini)')]), 'api/core': api}


@pytest.fixture
def site(tmp_path):
    assert render.render_site(notebooks(), tmp_path/'_site', 'Profile smoke, simulated radiographs.') == tmp_path/'_site'/'index.html'
    return tmp_path/'_site'


def html_pages(site): return {f.relative_to(site).as_posix(): f.read_text() for f in site.rglob('*.html')}
def anchors(html): return set(re.findall(r'\bid="([^"]+)"', html))


def dead_links(site):
    "(page, link) of every link and picture inside the site that leads nowhere"
    shown = html_pages(site)
    known = {name: anchors(html) for name, html in shown.items()}
    for name, html in shown.items():
        for link in re.findall(r'(?:href|src)="([^"]+)"', html):
            if re.match(r'https?:|data:|mailto:', link): continue
            target, _, anchor = link.partition('#')
            f = ((site/name).parent/target).resolve() if target else site/name
            page = f.relative_to(site.resolve()).as_posix() if site.resolve() in f.parents else None
            if not f.is_file() or anchor and unquote(anchor) not in known.get(page, ()): yield name, link


def twice(site):
    "(page, id) of every anchor that a page has more than once"
    for name, html in html_pages(site).items():
        ids = re.findall(r'\bid="([^"]+)"', html)
        yield from ((name, i) for i in set(ids) if ids.count(i) > 1)


def fetched(site):
    "What a browser would fetch from elsewhere on opening a page"
    for f in site.rglob('*.*'):
        if f.suffix not in ('.html', '.css', '.js'): continue
        yield from re.findall(r'<(?:script|link|img|iframe)\b[^>]*(?:src|href)="(?:https?:)?//[^"]*"|@import[^;]+|url\(["\']?https?:[^)]*\)', f.read_text())


def entries(site): return json.loads((site/'search.js').read_text().removeprefix('window.SEARCH = '))


def lost(site):
    "Addresses of the search that lead nowhere"
    shown = html_pages(site)
    for address, *_ in entries(site):
        page, _, anchor = address.partition('#')
        if page not in shown or anchor and anchor not in anchors(shown[page]): yield address


def left(site):
    "(page, text) of citations and references that were not resolved"
    for name, html in html_pages(site).items():
        text = re.sub(r'<(script|style|pre|code|math)\b.*?</\1>|<[^>]*>', '', html, flags=re.S)
        yield from ((name, t) for t in re.findall(r'\[[^\[\]]*@\w[^\[\]]*\]|(?<!\w)@fig-[\w-]+|\?fig-[\w-]+|^:::.*', text, re.M))


def problems(site): return [*dead_links(site), *twice(site), *fetched(site), *lost(site), *left(site)]


def test_nothing_is_wrong(site): assert problems(site) == []
def test_linked_files_go_along(site, root): assert (site/'sources'/'settings.ini.txt').read_text() == (root/'settings.ini').read_text() and (site/'sources'/'core.py.txt').is_file()


def test_what_is_wrong_would_be_found(site):
    (site/'x.html').write_text('<a href="gone.html">x</a><a href="core.html#nowhere">y</a><img src="pictures/gone.png"><p id="a">[@nobody] @fig-none</p><p id="a"></p>')
    assert sorted(l for _, l in dead_links(site)) == ['core.html#nowhere', 'gone.html', 'pictures/gone.png']
    assert list(twice(site)) == [('x.html', 'a')] and sorted(t for _, t in left(site)) == ['@fig-none', '[@nobody]']
    (site/'core.html').write_text('')
    assert 'core.html' not in list(lost(site)) and any(a.startswith('core.html#') for a in lost(site)) is False


def test_what_a_page_shows(site):
    core, phantom = (site/'core.html').read_text(), (site/'phantom.html').read_text()
    assert '<title>core' in core and 'Profile smoke, simulated radiographs.' in core and 'not for clinical use' in core
    assert 'secret' not in core and '50%' not in core and '#|' not in core + phantom
    assert core.count('<math') == 2 and '$' not in re.sub(r'<script.*?</script>', '', core, flags=re.S)
    assert '<summary>double</summary>' in core and '<table>' in core and 'id="code-double"' in core
    assert 'href="phantom.html#bones"' in core and 'href="api/core.html#study_type"' in core
    assert '<a rel="next" href="phantom.html">' in core and '<a rel="prev" href="core.html">' in phantom
    assert re.search(r'<img alt="a dot"[^>]*src="pictures/\w+\.png" width="1"', phantom) and 'show()' not in phantom
    api = (site/'api'/'core.html').read_text()
    assert all(l in api for l in ('href="../style.css"', 'href="../core.html#code-double"', 'href="../sources/core.py.txt"', 'href="../index.html"'))


def test_figures_and_citations(site):
    phantom = (site/'phantom.html').read_text()
    assert re.search(r'<figure id="fig-a">.*?<figcaption>Figure A: One, on simulated radiographs\.', phantom, re.S)
    assert 'Figure B: Two. (Not made in this run.)' in phantom and '<a class="ref" href="#fig-b">Figure B</a>' in phantom
    assert re.search(r'\[<a [^>]*href="#ref-selvaraju2017gradcam"[^>]*>1</a>\]', phantom) and 'id="references"' in phantom and 'Visual explanations' in phantom
    assert '<code>@fig-b</code>' in phantom and '<code>[@x]</code>' in phantom


def test_captions_of_real_radiographs_do_not_say_simulated(tmp_path):
    html = render.render_site(notebooks(), tmp_path/'_site', '', simulated=False).with_name('phantom.html').read_text()
    assert 'Figure A: One.' in html
    assert render._real('One study. Simulated radiographs; the one in the middle.') == 'One study. The one in the middle.'


def test_unknown_citation_is_an_error(tmp_path):
    with pytest.raises(ValueError, match='nobody1999'): render.render_site({'index': new_notebook(cells=[md('# x\n\n[@nobody1999]')])}, tmp_path/'_site', '')


def test_pictures_beside_the_notebooks_go_along(tmp_path, monkeypatch):
    "Once they were embedded; as files a browser loads them when they are scrolled to, and once where two pages show them"
    for m in (render, pages): monkeypatch.setattr(m, 'ROOT', tmp_path)
    (tmp_path/'results').mkdir()
    (tmp_path/'nbs').mkdir()
    (tmp_path/'nbs'/'nbdev.yml').write_text('website: {}')
    (tmp_path/'results'/'f.png').write_bytes(base64.b64decode(PNG))
    (tmp_path.parent/'secret.png').write_bytes(b'')
    nb = new_notebook(cells=[md('# x\n\n![a](../results/f.png) ![b](../results/gone.png) ![c](../../secret.png)')])
    html = render.render_site({'index': nb}, tmp_path/'_site', '').read_text()
    assert len(re.findall(r'src="pictures/\w+\.png"', html)) == 1 and 'src="../results/gone.png"' in html and 'src="../../secret.png"' in html
    assert [f.read_bytes() for f in (tmp_path/'_site'/'pictures').iterdir()] == [base64.b64decode(PNG)]


def test_landing_page_shows_its_picture_first():
    text = '# x\n> y\n\nSome words.\n\n![a](b.png)\n\nMore.'
    assert pages.landing(text) == '# x\n> y\n\n![a](b.png)\n\nSome words.\n\nMore.'
    assert pages.landing('# x\n\nNo picture.') == '# x\n\nNo picture.'


def test_headings_have_the_anchors_of_pandoc():
    import pypandoc
    heads = ["The report's loss", '`localise`', '3 things, at once', 'What is `x_y`? And z.', 'Figure 1: from a study', 'Report.errors']
    want = re.findall(r'<h2\s+id="([^"]*)"', pypandoc.convert_text('\n\n'.join(f'## {h}' for h in heads), 'html', format='markdown'))
    assert [render.slug(re.sub('`', '', h)) for h in heads] == want


def test_rendered_again_replaces_as_a_whole(site):
    (site/'old.html').write_text('')
    render.render_site(notebooks(), site, '')
    assert not (site/'old.html').exists() and not list(site.parent.glob('.site-*'))


def test_committed_pages(committed_site):
    "The site as `make site` renders it from nbs/ without Quarto"
    site, found = committed_site, pages.notebooks()
    assert problems(site) == []
    assert {p.removesuffix('.html') for p in html_pages(site)} == {pages.page(s.rpartition('/')[2]).removesuffix('.html') if '/' not in s else s for s in found}
    assert max(f.stat().st_size for f in site.rglob('*.html')) < 1.5e6 and sum(f.stat().st_size for f in site.rglob('*') if f.is_file()) < 40e6
    said = [e for e in entries(site) if 'grad-cam' in ' '.join(e).lower()]
    assert any(a.startswith('gradcam.html') for a, *_ in said)


def test_last_report(root):
    "The report that lies in _site, if there is one"
    if not (root/'_site'/'search.js').exists(): pytest.skip('no report rendered here yet, or an earlier version has')
    assert problems(root/'_site') == []
