-- A notebook as pandoc reads it becomes a page: cells, figures with letters, links between pages, words for the search.
local letters, figures, cited = {}, 0, false
local stringify = pandoc.utils.stringify

local function html(text) return pandoc.RawBlock('html', text) end
local function markdown(text) return pandoc.read(text, 'markdown', PANDOC_READER_OPTIONS).blocks end

-- exported code is folded, and found under the names that nbdev's links have
local function code_of(cell, text)
  local blocks, marks = pandoc.List(), pandoc.List()
  for name in (cell.attributes.anchors or ''):gmatch('%S+') do marks:insert(pandoc.Span({}, {id=name, class='at'})) end
  if #marks > 0 then blocks:insert(pandoc.Plain(marks)) end
  blocks:insert(pandoc.CodeBlock(text, {class='python'}))
  if not cell.attributes['code-summary'] then return blocks end
  local words = pandoc.write(pandoc.Pandoc(pandoc.Plain(cell.attributes['code-summary'])), 'html')
  return pandoc.List({html('<details><summary>' .. words .. '</summary>')}) .. blocks .. {html('</details>')}
end

local function figure(cell, outputs)
  local caption = (cell.attributes['fig-cap'] or '') .. (#outputs == 0 and ' (Not made in this run.)' or '')
  return {pandoc.Figure(outputs, {long=markdown(caption)}, {id=cell.attributes.label})}
end

local function cell(div)
  if div.classes:includes('markdown') then return div.content end
  if not div.classes:includes('code') then return end
  local alt = pandoc.Str(div.attributes['fig-alt'] or 'figure, described in the text beside it')
  local code = table.remove(div.content, 1).text
  local outputs = div.content:walk({Image = function(el) el.caption = {alt} return el end})
  if div.attributes.label then outputs = figure(div, outputs) end
  return pandoc.Div((code == '' and pandoc.List() or code_of(div, code)) .. outputs, {class='code'})
end

local function raw(block)
  if block.format == 'markdown' then return markdown(block.text) end
end

local function number(el)
  if not el.identifier:match('^fig%-') then return end
  figures = figures + 1
  letters[el.identifier] = 'Figure ' .. string.char(64 + figures)
  local words = {pandoc.Str(letters[el.identifier] .. ': ')}
  if el.caption.long[1] then el.caption.long[1].content = words .. el.caption.long[1].content
  else el.caption.long = {pandoc.Plain(words)} end
  return el
end

local function refer(cite)
  local key = cite.citations[1].id
  if letters[key] then return pandoc.Link(letters[key], '#' .. key, '', {class='ref'}) end
  cited = true
end

local function link(el)
  local path, name, rest = el.target:match('^([%w_./-]-)([%w_-]+)%.ipynb(#?[^#]*)$')
  if not name then return end
  el.target = path .. name:gsub('^%d+%l*_', '') .. '.html' .. rest
  return el
end

local function picture(el)
  if el.attributes['fig-alt'] then el.caption, el.attributes['fig-alt'] = {pandoc.Str(el.attributes['fig-alt'])}, nil end
  local found, _, bytes = pcall(pandoc.mediabag.fetch, el.src)
  local known, size = pcall(pandoc.image.size, found and bytes)
  if known then el.attributes.width, el.attributes.height = tostring(size.width), tostring(size.height) end
  el.attributes.loading = 'lazy'
  return el
end

-- an anchor stands once on a page; a heading goes before exported code
local function once(doc)
  local seen = {}
  local function heading(el)
    local name, n = el.identifier, 0
    while seen[el.identifier] do n = n + 1 el.identifier = name .. '-' .. n end
    seen[el.identifier] = true
    return el
  end
  local function mark(el)
    if el.classes:includes('at') and seen[el.identifier] then return {} end
    seen[el.identifier] = true
  end
  if cited then doc.blocks:extend({pandoc.Header(2, 'References', {id='references'}), pandoc.Div({}, {id='refs'})}) end
  return doc:walk({Header = heading}):walk({Span = mark})
end

-- what is read, section by section: [anchor, heading, words]
local function index(doc)
  local function nothing() return {} end
  local entries = pandoc.List({{'', '', ''}})
  for _, block in ipairs(doc.blocks:walk({CodeBlock=nothing, RawBlock=nothing, Math=nothing, Table=nothing})) do
    local words = stringify(block)
    if block.t == 'Header' then entries:insert({'#' .. block.identifier, words, ''})
    elseif words ~= '' then entries[#entries][3] = entries[#entries][3] .. words .. ' ' end
  end
  local file = assert(io.open(stringify(doc.meta.words), 'w'))
  file:write(pandoc.json.encode(entries))
  file:close()
end

return {{Div = cell}, {RawBlock = raw}, {Figure = number}, {Cite = refer, Link = link, Image = picture}, {Pandoc = once}, {Pandoc = index}}
