-- A notebook as pandoc reads it becomes a page: cells, figures with letters, pictures in files, links between pages, words for the search.
local site, page, simulated
local stringify = pandoc.utils.stringify
local letters, shown = {}, {}

local function html(text) return pandoc.RawBlock('html', text) end
local function escape(text) return (text:gsub('[&<>"]', {['&']='&amp;', ['<']='&lt;', ['>']='&gt;', ['"']='&quot;'})) end
local function markdown(text) return pandoc.read(text, 'markdown').blocks end

local function setup(meta)
  site, page, simulated = stringify(meta.site), stringify(meta.page), stringify(meta.simulated) == 'true'
end

-- captions of real radiographs do not say that they are simulated
local function caption_of(text)
  if simulated then return text end
  return (text:gsub(',? on simulated radiographs', ''):gsub('Simulated radiographs[;:.] ?', ''):gsub('^%l', string.upper):gsub('%. (%l)', function(c) return '. ' .. c:upper() end))
end

local function code_of(cell, block)
  local said = pandoc.List()
  local marks = pandoc.List()
  for name in (cell.attributes.anchors or ''):gmatch('%S+') do marks:insert(pandoc.Span({}, {id=name, class='at'})) end
  if cell.attributes.fold then said:insert(html('<details><summary>' .. escape(cell.attributes.fold) .. '</summary>')) end
  if #marks > 0 then said:insert(pandoc.Plain(marks)) end
  said:insert(pandoc.CodeBlock(block.text, {class='python'}))
  if cell.attributes.fold then said:insert(html('</details>')) end
  return said
end

local function cell(div)
  if div.classes:includes('markdown') then return div.content end
  if not div.classes:includes('code') then return nil end
  local said, outputs = pandoc.List(), pandoc.List()
  for _, block in ipairs(div.content) do
    if block.t == 'CodeBlock' then
      if block.text ~= '' then said:extend(code_of(div, block)) end
    else outputs:insert(block) end
  end
  local label = div.attributes.label
  if label then
    local text = caption_of(div.attributes.caption or '')
    if #outputs == 0 then text = text .. ' (Not made in this run.)' end
    outputs = {pandoc.Figure(outputs, {long=markdown(text)}, {id=label})}
  end
  outputs = pandoc.walk_block(pandoc.Div(outputs), {Image = function(picture)
    picture.caption = {pandoc.Str(div.attributes.alt or 'figure, described in the text beside it')}
    return picture
  end}).content
  said:extend(outputs)
  return pandoc.Div(said, {class='code'})
end

local function raw(block)
  if block.format == 'markdown' then return markdown(block.text) end
  if block.format == 'html' and block.text:match('<table') then return {html('<div class="scroll" tabindex="0">'), block, html('</div>')} end
end

local function number(figure)
  if not figure.identifier:match('^fig%-') then return end
  shown[#shown + 1] = figure.identifier
  letters[figure.identifier] = string.char(64 + #shown)
  local words = {pandoc.Str('Figure ' .. letters[figure.identifier] .. ': ')}
  local first = figure.caption.long[1]
  if first then first.content = words .. first.content
  else figure.caption.long = {pandoc.Plain(words)} end
  return figure
end

local function refer(cite)
  local letter = letters[cite.citations[1].id]
  if letter then return pandoc.Link('Figure ' .. letter, '#' .. cite.citations[1].id, '', {class='ref'}) end
end

local function link(el)
  local path, name, rest = el.target:match('^([%w_./-]-)([%w_-]+)%.ipynb(#?[^#]*)$')
  if not name then return end
  el.target = path .. name:gsub('^%d+%l?_', '') .. '.html' .. rest
  return el
end

-- a picture is a file of the site, named by its content, of known size, and leads to itself in full size
local function picture(el)
  local alt = el.attributes['fig-alt']
  if alt then el.caption, el.attributes['fig-alt'] = {pandoc.Str(alt)}, nil end
  if el.src:match('^https?:') then return el end
  local found, kind, bytes = pcall(pandoc.mediabag.fetch, el.src)
  if not found or not bytes then io.stderr:write('[WARNING] no such picture: ' .. el.src .. '\n') return el end
  local name = 'pictures/' .. pandoc.utils.sha1(bytes):sub(1, 12) .. '.' .. (({['image/jpeg']='jpg', ['image/svg+xml']='svg'})[kind] or 'png')
  local file = assert(io.open(site .. '/' .. name, 'wb'))
  file:write(bytes)
  file:close()
  local known, size = pcall(pandoc.image.size, bytes)
  if known then el.attributes.width, el.attributes.height = tostring(size.width), tostring(size.height) end
  el.src = ('../'):rep(select(2, page:gsub('/', ''))) .. name
  el.attributes.loading, el.attributes.decoding = 'lazy', 'async'
  return pandoc.Link(el, el.src, '', {class='full'}), false
end

-- columns are as wide as their words, and a wide table scrolls in its own box
local function wide(el)
  for i, spec in ipairs(el.colspecs) do el.colspecs[i] = {spec[1], nil} end
  return {pandoc.Div(el, {class='scroll', role='region', ['aria-label']='table', tabindex='0'})}, false
end

-- H1 and the quotation below it are title and subtitle; what is found by the search is what is read
local function finish(doc)
  local blocks, entries, here = pandoc.List(), pandoc.List(), {page, '', pandoc.List()}
  for _, block in ipairs(doc.blocks) do
    if block.t == 'Header' and block.level == 1 and not doc.meta.title then doc.meta.title = block.content
    elseif block.t == 'BlockQuote' and #blocks == 0 and not doc.meta.subtitle then doc.meta.subtitle = block.content[1].content
    else blocks:insert(block) end
    if block.t == 'Header' then
      entries:insert(here)
      here = {page .. (block.level > 1 and '#' .. block.identifier or ''), stringify(block), pandoc.List()}
    else
      local read = pandoc.walk_block(pandoc.Div(block), {CodeBlock = function() return {} end, RawBlock = function() return {} end,
        Math = function() return {} end, Table = function(t) return pandoc.Para(stringify(t.caption.long)) end})
      read.content:walk({Plain = function(b) here[3]:insert(stringify(b)) end, Para = function(b) here[3]:insert(stringify(b)) end})
    end
  end
  entries:insert(here)
  local file = assert(io.open(site .. '/' .. page .. '.json', 'w'))
  file:write(pandoc.json.encode(entries:map(function(e) return {e[1], e[2], table.concat(e[3], ' ')} end)))
  file:close()
  doc.blocks = blocks
  return doc
end

return {
  {Meta = setup},
  {Div = cell},
  {RawBlock = raw},
  {Figure = number},
  {Cite = refer, Link = link},
  {traverse = 'topdown', Image = picture, Table = wide},
  {Pandoc = finish},
}
