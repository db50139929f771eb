// menu, theme, folded code and search; the pages read as well without it
const root = document.body.dataset.root, at = id => document.getElementById(id)
document.documentElement.classList.add('js')

const menu = at('site-menu')
menu.onclick = () => {
  const open = document.body.classList.toggle('open')
  menu.setAttribute('aria-expanded', open)
}

at('site-theme').onclick = () => {
  const doc = document.documentElement, now = doc.dataset.theme || (matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light')
  doc.dataset.theme = now == 'dark' ? 'light' : 'dark'
  try { localStorage.setItem('mura_nb-theme', doc.dataset.theme) } catch {}
}

const button = at('site-fold'), folded = [...document.querySelectorAll('main details')]
if (!folded.length) button.hidden = true
button.onclick = () => {
  const open = !folded.every(d => d.open)
  folded.forEach(d => d.open = open)
  button.textContent = open ? 'fold code' : 'show all code'
}

// a link to exported code opens its fold
const unfold = () => {
  let target = null
  try { target = at(decodeURIComponent(location.hash.slice(1))) } catch { return } // no address of this page
  const fold = target?.closest('details')
  if (fold) { fold.open = true; fold.scrollIntoView() }
}
addEventListener('hashchange', unfold)
unfold()

// a picture leads to itself in full size, a heading to itself
for (const img of document.querySelectorAll('main img')) {
  if (img.closest('a')) continue
  const link = Object.assign(document.createElement('a'), {href: img.getAttribute('src'), className: 'full'})
  img.replaceWith(link)
  link.append(img)
}
for (const head of document.querySelectorAll(':is(h2, h3)[id]')) {
  const link = Object.assign(document.createElement('a'), {href: '#' + head.id, className: 'anchor-link', textContent: '#'})
  link.setAttribute('aria-label', 'link to this section')
  head.append(link)
}

// the index comes when it is wanted first; as a script, since a page opened from a disk may not fetch
const field = at('site-search'), found = at('site-found')
let loading
const index = () => loading ??= new Promise((done, fail) => {
  const s = document.createElement('script')
  s.src = root + 'search.js'
  s.onload = () => done(window.SEARCH)
  s.onerror = fail
  document.head.append(s)
})

const escaped = s => s.replace(/[&<>"]/g, c => ({'&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;'})[c])
const marked = (text, words) => {
  const any = words.map(w => w.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')).join('|')
  const parts = text.split(new RegExp(`(${any})`, 'gi'))
  return parts.map((part, i) => i % 2 ? `<mark>${escaped(part)}</mark>` : escaped(part)).join('')
}

function score([href, page, heading, text], words) {
  let sum = 0
  const low = [heading, page, text].map(t => t.toLowerCase())
  for (const w of words) {
    if (!low.some(t => t.includes(w))) return 0
    sum += 8*(low[0] == w) + 6*low[0].includes(w) + 4*low[1].includes(w) + Math.min(3, low[2].split(w).length - 1)
  }
  return sum
}

function around(text, words) {
  const low = text.toLowerCase(), first = Math.max(0, Math.min(...words.map(w => low.indexOf(w)).filter(i => i >= 0), text.length) - 40)
  return (first ? '… ' : '') + text.slice(first, first + 140) + (first + 140 < text.length ? ' …' : '')
}

async function search() {
  const words = field.value.toLowerCase().split(/\s+/).filter(w => w.length > 1)
  found.hidden = !words.length
  if (!words.length) return
  let pages
  try { pages = await index() } catch { found.innerHTML = '<p>search.js is missing</p>'; return }
  const hits = pages.map(p => [score(p, words), p]).filter(h => h[0]).sort((a, b) => b[0] - a[0]).slice(0, 12)
  found.innerHTML = `<p role="status">${hits.length ? (hits.length == 12 ? 'the best 12 places' : hits.length + (hits.length > 1 ? ' places' : ' place')) : 'nothing found'}</p>` + hits.map(([, [href, page, heading, text]]) =>
    `<a href="${root}${escaped(href)}"><b>${marked(heading || page, words)}</b><small>${escaped(page)}</small><span>${marked(around(text, words), words)}</span></a>`).join('')
}
field.oninput = search
field.onfocus = () => { index().catch(() => 0); if (field.value) search() }

addEventListener('keydown', e => {
  const links = [...found.querySelectorAll('a')], here = links.indexOf(document.activeElement)
  if (e.key == '/' && !/INPUT|TEXTAREA/.test(document.activeElement.tagName)) { e.preventDefault(); field.focus() }
  else if (e.key == 'Escape') { if (!found.hidden) field.focus(); found.hidden = true }
  else if (!found.hidden && (here >= 0 || document.activeElement == field) && (e.key == 'ArrowDown' || e.key == 'ArrowUp')) {
    e.preventDefault()
    const next = here + (e.key == 'ArrowDown' ? 1 : -1)
    next < 0 ? field.focus() : links[Math.min(next, links.length - 1)]?.focus()
  }
  else if (e.key == 'Enter' && document.activeElement == field && links.length) links[0].click()
})
addEventListener('click', e => { if (!e.target.closest('.find')) found.hidden = true; else if (e.target.closest('#site-found a')) found.hidden = true })
