"""The site in a real browser, from the disk and without a network: widths, themes, menu, search by keyboard, pictures.

Skipped where there is no Chromium, except in CI, where that is a failure."""

import os, shutil
from contextlib import contextmanager
import pytest

CI = bool(os.environ.get('CI') or os.environ.get('MURA_NB_CI'))
CHROMIUM = next((p for n in ('chromium', 'chromium-browser', 'google-chrome') if (p := shutil.which(n))), None)
if CHROMIUM is None and not CI:
    pytest.skip('no Chromium here', allow_module_level=True)
DESKTOP, PHONE = dict(width=1280, height=900), dict(width=390, height=844)


@pytest.fixture
def site(committed_site):
    return committed_site


@pytest.fixture(scope='module')
def browser():
    assert CHROMIUM, 'CI needs Chromium: apt-get install chromium'
    from playwright.sync_api import sync_playwright

    with sync_playwright() as p:
        b = p.chromium.launch(
            executable_path=CHROMIUM,
            args=[
                '--no-sandbox',
                '--disable-gpu',
                '--disable-quic',
                '--no-first-run',
                '--disable-background-networking',
                '--disable-component-update',
                '--disable-sync',
            ],
        )
        yield b
        b.close()


@contextmanager
def opened(browser, site, name, viewport=DESKTOP, scheme='light'):
    "A page; what its scripts complain about and what it asks the network for are errors"
    context = browser.new_context(viewport=viewport, color_scheme=scheme, offline=True)
    page, wrong = context.new_page(), []
    page.on('pageerror', lambda e: wrong.append(str(e)))
    page.on('request', lambda r: wrong.append(r.url) if not r.url.startswith(('file:', 'data:', 'blob:')) else None)
    page.on('requestfailed', lambda r: wrong.append(r.url) if r.failure != 'net::ERR_ABORTED' else None) # left early
    page.goto(f'file://{site}/{name}')
    yield page
    context.close()
    assert wrong == []


def colour(page):
    return page.evaluate("getComputedStyle(document.body).backgroundColor")


def test_no_page_is_wider_than_the_screen(browser, site):
    wide, names = [], [f.relative_to(site).as_posix() for f in sorted(site.rglob('*.html'))]
    with opened(browser, site, names[0]) as page:
        for name in names:
            page.goto(f'file://{site}/{name}')
            for viewport in (DESKTOP, PHONE): # one loading for both
                page.set_viewport_size(viewport)
                width = page.evaluate('document.documentElement.scrollWidth')
                if width > viewport['width']: wide.append((name, width))
    assert wide == []


def test_pictures_are_drawn(browser, site):
    for name in ('index.html', 'gradcam.html'):
        with opened(browser, site, name) as page:
            page.evaluate("document.querySelectorAll('img').forEach(i => i.loading = 'eager')")
            page.wait_for_function("[...document.images].every(i => i.complete)")
            assert page.evaluate(
                "document.images.length && [...document.images].every(i => i.naturalWidth > 1 && i.alt)"
            )


def test_theme_follows_the_system_and_the_button(browser, site):
    with opened(browser, site, 'index.html') as page:
        light = colour(page)
    with opened(browser, site, 'index.html', scheme='dark') as page:
        dark = colour(page)
        page.get_by_role('button', name='Dark or light').click()
        assert colour(page) == light != dark
        page.get_by_role('link', name='FuseNet').first.click()
        assert page.title().startswith('FuseNet') and colour(page) == light, 'the choice is kept on the next page'


def test_search_by_keyboard(browser, site):
    with opened(browser, site, 'index.html') as page:
        page.keyboard.press('/')
        page.keyboard.type('Grad-CAM')
        page.wait_for_selector('#site-found a')
        first = page.locator('#site-found a').first
        assert first.inner_text().startswith('Grad-CAM') # the section of that name, before mentions in others
        address = first.get_attribute('href')
        page.keyboard.press('ArrowDown')
        assert page.evaluate("document.activeElement.parentElement.id") == 'site-found'
        page.keyboard.press('Enter')
        page.wait_for_url(f'**/{address}')
    with opened(browser, site, 'api/core.html') as page:
        page.get_by_label('Search the report').fill('patient_split')
        page.wait_for_selector('#site-found a')
        page.get_by_label('Search the report').press('Enter')
        page.wait_for_url('**/api/data.html#patient_split')
        page.keyboard.press('/')
        page.keyboard.type('zzqqzz')
        assert page.get_by_text('nothing found').is_visible()
        page.keyboard.press('Escape')
        assert not page.locator('#site-found').is_visible()


def test_everything_is_reached_with_tab(browser, site):
    with opened(browser, site, 'index.html') as page:
        seen = []
        for _ in range(12):
            page.keyboard.press('Tab')
            seen.append(page.evaluate("document.activeElement.id || document.activeElement.textContent.trim()"))
        assert seen[0] == 'Skip to the text' and {'site-theme', 'site-search', 'Overview'} <= set(seen)


def test_menu_on_a_phone(browser, site):
    with opened(browser, site, 'index.html', PHONE) as page:
        assert not page.locator('#site-pages').is_visible()
        page.get_by_role('button', name='Menu').click()
        page.locator('#site-pages').get_by_role('link', name='6 Ensemble').click()
        page.wait_for_url('**/ensemble.html')
        assert page.title().startswith('Ensemble') and not page.locator('#site-pages').is_visible()


def test_a_link_from_the_api_opens_the_folded_code(browser, site):
    with opened(browser, site, 'api/results.html') as page:
        page.locator('a[href="../results.html#load_table"]').first.click()
        page.wait_for_url('**/results.html#load_table')
        assert page.locator('.code:has(#load_table) .sourceCode').first.is_visible()


def test_a_picture_leads_to_itself_in_full_size(browser, site):
    with opened(browser, site, 'gradcam.html', PHONE) as page:
        link = page.locator('figure a.full').first
        assert link.get_attribute('href') == link.locator('img').get_attribute('src')
        assert page.evaluate("document.querySelector('figure a.full img').clientWidth") < 390


def test_what_is_wide_scrolls_in_its_own_box(browser, site):
    "Tables, formulas and code on a phone; code lines wrap"
    with opened(browser, site, 'baselines.html', PHONE) as page:
        for name in ('table', 'math[display=block]', 'pre'):
            assert page.evaluate(
                f"[...document.querySelectorAll('main {name}')]"
                ".every(e => e.getBoundingClientRect().right <= innerWidth + 1)"
            ), name
        page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
        assert page.evaluate(
            "[...document.querySelectorAll('main pre.sourceCode')].every(e => e.scrollWidth <= e.clientWidth + 1)"
        )


CONTRAST = """() => {
  const channel = v => v/255 <= .04045 ? v/255/12.92 : ((v/255 + .055)/1.055)**2.4
  const light = ([r, g, b]) => .2126*channel(r) + .7152*channel(g) + .0722*channel(b)
  const parts = s => s.match(/[\\d.]+/g).map(Number)
  const below = e => {
    const c = e ? parts(getComputedStyle(e).backgroundColor) : [255, 255, 255]
    return c.length == 3 || c[3] ? c.slice(0, 3) : below(e.parentElement)
  }
  const read = 'main p, main code, main pre span, main a, summary, nav a, figcaption, .note, footer a'
  const shown = [...document.querySelectorAll(read)].filter(e => e.offsetParent && e.textContent.trim())
  return shown.map(e => {
    const [a, b] = [parts(getComputedStyle(e).color).slice(0, 3), below(e)].map(light)
    return [e.tagName + '.' + e.className, (Math.max(a, b) + .05)/(Math.min(a, b) + .05)] }).filter(([, c]) => c < 4.5)
}"""


@pytest.mark.parametrize('scheme', ('light', 'dark'))
def test_contrast_of_what_is_shown(browser, site, scheme):
    "WCAG AA; and a picture glares less in the dark"
    with opened(browser, site, 'index.html', scheme=scheme) as page:
        page.add_style_tag(content='main p { color: #777 }')
        assert page.evaluate(CONTRAST) != [], 'grey on grey would be found'
    for name in ('index.html', 'gradcam.html', 'api/core.html'):
        with opened(browser, site, name, scheme=scheme) as page:
            page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
            assert page.evaluate(CONTRAST) == [], name
            dimmed = page.evaluate("[...document.images].every(i => getComputedStyle(i).filter != 'none')")
            assert scheme == 'light' or dimmed


def test_printed(browser, site, tmp_path, monkeypatch):
    "The report as one PDF, from the pages"
    import nbformat
    import pdf

    monkeypatch.setattr(pdf, 'notebooks', lambda: {s: nbformat.v4.new_notebook() for s in ('index', '00_core')})
    pdf.paper(browser.new_page(), site, tmp_path / 'report.pdf')
    data = (tmp_path / 'report.pdf').read_bytes()
    assert data.startswith(b'%PDF') and len(data) > 50_000 and not (site / 'report.html').exists()
