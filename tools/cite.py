"""Citations as Quarto prints them, where Quarto is absent: pandoc (of the package pypandoc-binary) reads the BibTeX file and the style."""
import html, re, sys
from functools import lru_cache
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from pages import outside_code
from runner import ROOT

BIB, STYLE = ROOT/'nbs'/'references.bib', ROOT/'nbs'/'numbered.csl'
CROSSREF = r'(?:fig|tbl|sec|eq|lst)-'
GROUP = re.compile(rf'\[(?:[^\[\]@]*[\s;(,-])?-?@(?!{CROSSREF})[A-Za-z][\w:.-]*[^\[\]]*\](?!\()')
KEY = re.compile(rf'(?<![\w@/.])@(?!{CROSSREF})([A-Za-z](?:[\w:.-]*\w)?)')


@lru_cache
def keys(bib=BIB): return frozenset(re.findall(r'^@\w+\{([^,\s]+),', bib.read_text(encoding='utf-8'), re.M)) if bib.exists() else frozenset()


def cited(md):
    "Keys of the citations in a Markdown text, in order"
    found = []
    outside_code(lambda t: found.extend(k for g in GROUP.findall(t) for k in KEY.findall(g)) or t, md)
    return found


def _pandoc(text):
    import pypandoc
    return pypandoc.convert_text(text, 'html', format='markdown', extra_args=['--citeproc', '--wrap=none', f'--bibliography={BIB}', f'--csl={STYLE}', '-M', 'link-citations=true'])


def resolve(texts):
    """Put printed citations into Markdown texts: returns the new texts and the list of references as HTML, '' without any.
    A key that is not in the BibTeX file is an error."""
    groups = []
    for t in texts: outside_code(lambda p: groups.extend(GROUP.findall(p)) or p, t)
    if not groups: return list(texts), ''
    if wrong := sorted({k for g in groups for k in KEY.findall(g)} - keys()): raise ValueError(f"cited but not in {BIB.relative_to(ROOT)}: {', '.join(wrong)}")
    out = _pandoc('\n\n'.join(groups) + '\n\n::: {#refs}\n:::\n')
    body, _, refs = out.partition('<div id="refs"')
    said = iter(re.findall(r'<p>(.*?)</p>', body, re.S))
    new = [outside_code(lambda p: GROUP.sub(lambda m: next(said), p), t) for t in texts]
    return new, f'<div id="refs"{refs}'
