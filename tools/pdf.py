"make pdf: the rendered report as one PDF, printed by Chromium; its numbers are the pages'."
import re, shutil, sys
from playwright.sync_api import sync_playwright
from pages import notebooks, page
from runner import ROOT

def joined(site, found):
    "The text of all chapters as one page; what a page links to within the report is found further down"
    mains = []
    for name in map(page, found):
        html = (site/name).read_text(encoding='utf-8')
        main = re.search(r'<main.*?>(.*)</main>', html, re.S)[1].replace(' loading="lazy"', '')
        main = re.sub(r'\b(id="|href="#)', rf'\1{name}-', main)
        main = re.sub(r'href="([\w.]+\.html)"', r'href="#\1"', main)
        mains.append(f'<div id="{name}">' + re.sub(r'href="([\w.]+\.html)#', r'href="#\1-', main) + '</div>')
    return f"{html[:html.index('<body')]}<body><main>{''.join(mains)}</main></body></html>"

def paper(tab, site, pdf):
    "Print the joined pages in a tab of a browser, pages numbered"
    (site/'report.html').write_text(joined(site, notebooks()), encoding='utf-8')
    tab.goto(f'file://{site}/report.html')
    foot = '<div style="font-size: 8px; width: 100%; text-align: center"><span class="pageNumber"></span></div>'
    tab.pdf(path=pdf, format='A4', outline=True, tagged=True, display_header_footer=True, header_template='<i></i>',
        footer_template=foot, margin=dict(top='18mm', bottom='18mm', left='16mm', right='16mm'))
    (site/'report.html').unlink()

def main(site=ROOT/'_site'):
    chromium = next(filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome'))), None)
    if not chromium: sys.exit('make pdf: needs Chromium (apt-get install chromium)')
    if not (site/'index.html').exists(): sys.exit('make pdf: first make report')
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=chromium, args=['--no-sandbox', '--disable-gpu'])
        paper(browser.new_page(), site, site/'report.pdf')
    print('_site/report.pdf')

if __name__ == '__main__': main()
