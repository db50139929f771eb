"""The rendered report: links lead somewhere, pictures are there, nothing is loaded from the network, hidden things are
hidden, the search knows the pages."""

import base64
import io
import json
import os
import re
import shutil
from pathlib import Path
from urllib.parse import unquote

import nbformat
import pages
import publish
import pytest
import render
from nbformat.v4 import new_code_cell as code
from nbformat.v4 import new_markdown_cell as md
from nbformat.v4 import new_notebook, new_output
from PIL import Image

buffer = io.BytesIO()
Image.new('L', (1, 1)).save(buffer, 'PNG')
PNG = base64.b64encode(buffer.getvalue()).decode()


def notebooks():
    one = new_notebook(
        cells=[
            md(
                '# core\n\n> What all share.\n\nThe loss is $-w_{T,1}\\,y\\log p$.\n\n$$\\frac{a}{b}$$\n\n'
                'See [next](01_phantom.ipynb#bones), '
                '`study_type` and [here `study_type`](01_phantom.ipynb); the AUC is .5 [.4, .6].'
            ),
            code('#| hide\nsecret = 1'),
            code('#| export\ndef study_type(x): return 2*x\nclass Settings:\n    def recipe(self): pass'),
            code(
                'double(2)',
                outputs=[
                    new_output('stream', name='stderr', text='50%|##'),
                    new_output(
                        'execute_result',
                        execution_count=3,
                        data={'text/plain': '4', 'text/markdown': '| a |\n|--:|\n| 4 [3, 5] |'},
                    ),
                ],
            ),
            code(
                '#| demo\n#| echo: false\nfinding("Four.")',
                outputs=[new_output('display_data', data={'text/markdown': 'It is **four**.'})],
            ),
        ]
    )
    two = new_notebook(
        cells=[
            md(
                '# phantom\n> Simulated.\n\n## Bones\n\nAs @fig-b and Grad-CAM [@selvaraju2017gradcam] show; '
                '`@fig-b` and `[@x]` are code. `study_type` again.'
                '\n\n::: {.callout-note}\nMind it.\n:::'
            ),
            code(
                '#| label: fig-a\n#| fig-cap: "One, on simulated radiographs."\n#| fig-alt: "a dot"\n'
                '#| echo: false\nshow()',
                outputs=[new_output('display_data', data={'image/png': PNG, 'text/plain': 'Figure'})],
            ),
            code('#| label: fig-b\n#| fig-cap: "Two."\nnothing()'),
            code('\n'.join(f'x{i} = {i}' for i in range(9))),
        ]
    )
    index = new_notebook(
        cells=[
            md('# mura_nb\n> A report.\n\n[core](00_core.ipynb), [room](00a_room.ipynb), [settings](../settings.ini)')
        ]
    )
    return {
        'index': index,
        '00_core': one,
        '00a_room': new_notebook(cells=[md('# A room\n> Beside it.\n\nText.')]),
        '01_phantom': two,
    }


@pytest.fixture(scope='module')
def rendered(tmp_path_factory):
    "Rendered once, without the address of a repository; tests only look at it"
    folder = tmp_path_factory.mktemp('small') / '_site'
    with pytest.MonkeyPatch.context() as m:
        for name in ('GITHUB_SERVER_URL', 'GITHUB_REPOSITORY'):
            m.delenv(name, raising=False)
        index = render.render_site(notebooks(), folder, 'Profile smoke, simulated radiographs.')
    assert index == folder / 'index.html'
    return folder


@pytest.fixture
def site(rendered, tmp_path):
    "A copy of it"
    return Path(shutil.copytree(rendered, tmp_path / '_site'))


def html_pages(site):
    return {f.relative_to(site).as_posix(): f.read_text() for f in site.rglob('*.html')}


def anchors(html):
    return set(re.findall(r'\bid="([^"]+)"', html))


def dead_links(site):
    "(page, link) of every link and picture inside the site that leads nowhere"
    shown = html_pages(site)
    known = {name: anchors(html) for name, html in shown.items()}
    for name, html in shown.items():
        for link in re.findall(r'(?:href|src)="([^"]+)"', html):
            if re.match(r'https?:|data:|mailto:', link):
                continue
            target, _, anchor = link.partition('#')
            f = ((site / name).parent / unquote(target)).resolve() if target else site / name
            page = f.relative_to(site.resolve()).as_posix() if site.resolve() in f.parents else None
            if not f.is_file() or anchor and unquote(anchor) not in known.get(page, ()):
                yield name, link


def twice(site):
    "(page, id) of every anchor that a page has more than once"
    for name, html in html_pages(site).items():
        ids = re.findall(r'\bid="([^"]+)"', html)
        yield from ((name, i) for i in set(ids) if ids.count(i) > 1)


def fetched(site):
    "What a browser would fetch from elsewhere on opening a page"
    for f in site.rglob('*.*'):
        if f.suffix not in ('.html', '.css', '.js'):
            continue
        yield from re.findall(
            r'<(?:script|link|img|iframe)\b[^>]*(?:src|href)="(?:https?:)?//[^"]*"|@import[^;]+|url\(["\']?https?:[^)]*\)',
            f.read_text(),
        )


def entries(site):
    return json.loads((site / 'search.js').read_text().removeprefix('window.SEARCH = '))


def lost(site):
    "Addresses of the search that lead nowhere"
    shown = html_pages(site)
    for address, *_ in entries(site):
        page, _, anchor = address.partition('#')
        if page not in shown or anchor and anchor not in anchors(shown[page]):
            yield address


def left(site):
    "(page, text) of citations and references that were not resolved"
    for name, html in html_pages(site).items():
        text = re.sub(r'<(script|style|pre|code|math)\b.*?</\1>|<[^>]*>', '', html, flags=re.S)
        yield from (
            (name, t) for t in re.findall(r'\[[^\[\]]*@\w[^\[\]]*\]|(?<!\w)@fig-[\w-]+|\?fig-[\w-]+|^:::.*', text, re.M)
        )


def problems(site):
    return [*dead_links(site), *twice(site), *fetched(site), *lost(site), *left(site)]


def test_nothing_is_wrong(site):
    assert problems(site) == []


def test_linked_files_go_along(site, root):
    assert (site / 'sources' / 'settings.ini.txt').read_text() == (root / 'settings.ini').read_text()


def test_what_is_wrong_would_be_found(site):
    (site / 'x.html').write_text(
        '<a href="gone.html">x</a><a href="core.html#nowhere">y</a><img src="pictures/gone.png">'
        '<p id="a">[@nobody] @fig-none</p><p id="a"></p>'
    )
    assert sorted(link for _, link in dead_links(site)) == ['core.html#nowhere', 'gone.html', 'pictures/gone.png']
    assert list(twice(site)) == [('x.html', 'a')] and sorted(t for _, t in left(site)) == ['@fig-none', '[@nobody]']
    (site / 'phantom.html').write_text('')
    assert any(a.startswith('phantom.html#') for a in lost(site))


def test_what_a_page_shows(site):
    core, phantom = (site / 'core.html').read_text(), (site / 'phantom.html').read_text()
    assert '<title>core' in core and 'Profile smoke, simulated radiographs.' in core and 'not for clinical use' in core
    assert re.search(r'<h1>core</h1>\s*<p class="subtitle">What all share\.</p>', core) and core.count(
        'What all share.'
    ) == 1 + core.count('="What all share."')
    assert 'secret' not in core and '50%' not in core and '#|' not in core + phantom and 'finding(' not in core
    assert core.count('<math') == 2 and '$' not in re.sub(
        r'<script.*?</script>|<annotation.*?</annotation>', '', core, flags=re.S
    )
    assert '<summary>study_type, Settings</summary>' in core and '<table>' in core and '<strong>four</strong>' in core
    assert '<summary>code</summary>' in phantom, 'long code is folded'
    assert 'href="phantom.html#bones"' in core and 'class="callout-note"' in phantom
    assert '<a rel="next" href="room.html">' in core and '<a rel="prev" href="room.html">' in phantom
    assert '.5 [.4,\N{NO-BREAK SPACE}.6]' in core and '4 [3,\N{NO-BREAK SPACE}5]' in core, (
        'an interval stays on one line'
    )


def test_names_lead_to_their_code_once_and_never_within_a_link(site):
    core, phantom = (site / 'core.html').read_text(), (site / 'phantom.html').read_text()
    assert (
        re.findall(r'<a\s+href="core.html#study_type"', core + phantom)
        and core.count('href="core.html#study_type"') == 1
    )
    assert '<a href="phantom.html">here <code>study_type</code></a>' in core
    folded = re.search(r'<details>.*?</details>', core, re.S)[0]
    assert all(f'id="{a}"' in folded for a in ('study_type', 'settings', 'settings.recipe'))


def test_rooms_are_folded_below_their_chapter(site):
    for name, is_open in (('core', True), ('room', True), ('phantom', False)):
        nav = re.search(r'<nav id="site-pages".*?</nav>', (site / f'{name}.html').read_text(), re.S)[0]
        rooms = re.search(r'<details class="rooms"( open)?>(.*?)</details>', nav, re.S)
        assert bool(rooms[1]) == is_open and 'href="core.html"' in rooms[2] and 'href="room.html"' in rooms[2]
    assert list(pages.notebooks()) and pages.tree(['index', '09a_b', '01_x', '01b_z', '01a_y']) == [
        ('index', []),
        ('01_x', ['01a_y', '01b_z']),
        ('09a_b', []),
    ]


def test_figures_and_citations(site):
    phantom = (site / 'phantom.html').read_text()
    assert re.search(
        r'<figure id="fig-a">.*?<figcaption>\s*<p>Figure A: One, on simulated radiographs\.', phantom, re.S
    )
    assert (
        re.search(r'<img[^>]*src="pictures/\w+\.png"', phantom)
        and all(w in phantom for w in ('alt="a dot"', 'loading="lazy"', 'width="1"'))
        and 'show()' not in phantom
    )
    assert 'Figure B: Two. (Not made in this run.)' in phantom and re.search(
        r'<a\s+href="#fig-b"\s+class="ref">Figure B</a>', phantom
    )
    assert (
        re.search(r'\[<a\s[^>]*href="#ref-selvaraju2017gradcam"[^>]*>1</a>\]', phantom)
        and 'id="references"' in phantom
        and 'Visual explanations' in phantom
    )
    assert '<code>@fig-b</code>' in phantom and '<code>[@x]</code>' in phantom


def test_captions_of_real_radiographs_do_not_say_simulated(tmp_path):
    html = (
        render.render_site(notebooks(), tmp_path / '_site', '', simulated=False).with_name('phantom.html').read_text()
    )
    assert 'Figure A: One.' in html
    assert (
        render.real('One study. Simulated radiographs; the one in the middle.') == 'One study. The one in the middle.'
    )


def test_unknown_citation_is_an_error(tmp_path):
    with pytest.raises(ValueError, match='nobody1999'):
        render.render_site({'index': new_notebook(cells=[md('# x\n\n[@nobody1999]')])}, tmp_path / '_site', '')


def test_pictures_beside_the_notebooks_go_along(tmp_path, root, capsys):
    "A missing one is said; one from outside the checkout is not shown"
    (tmp_path / 'secret.png').write_bytes(base64.b64decode(PNG))
    out = os.path.relpath(tmp_path / 'secret.png', root / 'nbs')
    nb = new_notebook(
        cells=[
            md('# x\n\n![a](../results/demo/figures/landing.png) ![b](../results/gone.png) ![c](../../nowhere.png)')
        ]
    )
    site = render.render_site({'index': nb}, tmp_path / '_site', '').parent
    assert [f.read_bytes() for f in (site / 'pictures').iterdir()] == [
        (root / 'results/demo/figures/landing.png').read_bytes()
    ]
    assert 'gone.png' in capsys.readouterr().out and out


def test_notebooks_to_take_along(site, tmp_path, monkeypatch):
    """Without outputs; with the repository's address the first cell installs the package, and the page links to Colab
    and Binder"""
    nb = nbformat.read(site / 'notebooks' / '00_core.ipynb', 4)
    nbformat.validate(nb)
    assert [c.source for c in nb.cells] == [c.source for c in notebooks()['00_core'].cells] and not any(
        c.get('outputs') for c in nb.cells
    )
    html = (site / 'core.html').read_text()
    assert 'href="notebooks/00_core.ipynb" download' in html and 'colab' not in html
    monkeypatch.setenv('GITHUB_SERVER_URL', 'https://github.com')
    monkeypatch.setenv('GITHUB_REPOSITORY', 'someone/mura')
    site = render.render_site(notebooks(), tmp_path / 'other', '').parent
    html = (site / 'index.html').read_text()
    assert 'https://colab.research.google.com/github/someone/mura/blob/notebooks/index.ipynb' in html
    assert (
        'https://mybinder.org/v2/gh/someone/mura/notebooks?labpath=index.ipynb' in html
        and 'https://github.com/someone/mura/blob/main/settings.ini' in html
    )
    nb = nbformat.read(site / 'notebooks' / '00_core.ipynb', 4)
    nbformat.validate(nb)
    assert re.match(r'%pip install .*mura_nb.* git\+https://github.com/someone/mura', nb.cells[0].source)


def test_addresses_are_absolute_or_absent(site, monkeypatch):
    monkeypatch.delenv('SITE_URL', raising=False)
    (site / 'robots.txt').write_text('Sitemap: /sitemap.xml')
    publish.sitemap(site)
    assert not (site / 'robots.txt').exists() and not (site / 'sitemap.xml').exists()
    monkeypatch.setenv('SITE_URL', 'https://x.org/mura/')
    publish.sitemap(site)
    assert '<loc>https://x.org/mura/core.html</loc>' in (site / 'sitemap.xml').read_text()
    assert (site / 'robots.txt').read_text() == 'Sitemap: https://x.org/mura/sitemap.xml\n'


def test_rendered_again_replaces_as_a_whole(site):
    (site / 'old.html').write_text('')
    render.render_site(notebooks(), site, '')
    assert not (site / 'old.html').exists() and not list(site.parent.glob('.site-*'))


def luminance(colour):
    channels = (
        [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        if len(colour) == 7
        else [int(c * 2, 16) / 255 for c in colour[1:]]
    )
    r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def contrast(a, b):
    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_contrast_of_all_colours(root):
    "WCAG AA, in both themes: text, links, folds and code against the page and against code's background"
    css = (root / 'tools' / 'page' / 'style.css').read_text()
    themes = [
        dict(re.findall(r'--([\w-]+): (#\w+)', m))
        for m in re.findall(r'color-scheme: (?:light|dark);[^}]*--ink[^}]*', css)
    ]
    assert len(themes) == 3 and themes[1] == themes[2] and contrast('#000000', '#fff') == 21
    for t in themes:
        low = {
            (a, b): round(contrast(t[a], t[b]), 2)
            for a in ('ink', 'soft', 'link', *(k for k in t if k.startswith('hl-')))
            for b in ('paper', 'tint')
            if contrast(t[a], t[b]) < 4.5
        }
        assert low == {} and contrast(t['ink'], t['mark']) > 4.5
        alarms = [('stop', 'tint'), ('stop', 'mark'), *((k, 'alarm') for k in ('stop', 'ink', 'link'))]
        assert [pair for pair in alarms if contrast(t[pair[0]], t[pair[1]]) < 4.5] == []


def test_committed_pages(committed_site):
    "The site as `make site` renders it from nbs/ without Quarto"
    site, found = committed_site, pages.notebooks()
    assert problems(site) == []
    modules = {f'api/{m}.html' for nb in found.values() if (m := pages.module(nb))}
    assert set(html_pages(site)) == {pages.page(s) for s in found} | modules
    assert (
        max(f.stat().st_size for f in site.rglob('*.html')) < 1.5e6
        and sum(f.stat().st_size for f in site.rglob('*') if f.is_file()) < 40e6
    )
    assert (site / 'search.js').stat().st_size < 700e3
    said = [e for e in entries(site) if 'grad-cam' in ' '.join(e).lower()]
    assert any(a.startswith('gradcam.html') for a, *_ in said)
    assert [
        (n, i)
        for n, html in html_pages(site).items()
        for i in re.findall(r'<img\b[^>]*>', html)
        if not re.search(r'alt="[^"]+"', i)
    ] == []


def test_api_pages(committed_site):
    "Every public function with its signature and documents, linked with its code"
    html = (committed_site / 'api' / 'results.html').read_text()
    assert all(f'id="{n}"' in html for n in ('save_table', 'load_table'))
    assert 'href="../results.html#load_table"' in html
    assert 'href="../style.css"' in html and 'href="../index.html"' in html and '_private' not in html


def test_report_as_one_pdf(site):
    "One page of all chapters, whose links stay within it"
    import pdf

    found = notebooks()
    text = pdf.joined(site, found)
    assert (
        text.count('<h1') == len(found) == 4
        and text.count('<main>') == 1
        and 'href="#phantom.html-bones"' in text
        and 'id="phantom.html-bones"' in text
    )
    assert [i for i in re.findall(r'id="([^"]+)"', text) if text.count(f'id="{i}"') > 1] == []
    assert [h for h in re.findall(r'href="#([^"]+)"', text) if f'id="{h}"' not in text] == []


def test_last_report(root):
    "The report that lies in _site, if there is one"
    if not (root / '_site' / 'search.js').exists():
        pytest.skip('no report rendered here yet, or an earlier version has')
    assert problems(root / '_site') == []
