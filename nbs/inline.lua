-- for both renderers: an interval stays on one line. For Quarto: a picture without alternative text takes its caption's
function Inlines(words)
  for i = #words - 2, 1, -1 do
    local a, space, b = words[i], words[i+1], words[i+2]
    local apart = a.t == 'Str' and b.t == 'Str' and (space.t == 'Space' or space.t == 'SoftBreak')
    if apart and a.text:match('%[%S*%d%S*,$') and b.text:match('^%S*%d%S*%]') then
      words[i] = pandoc.Str(a.text .. '\u{a0}' .. b.text)
      words:remove(i+1)
      words:remove(i+1)
    end
  end
  return words
end

function Image(picture)
  if not quarto or picture.attributes['fig-alt'] or #picture.caption == 0 then return end
  picture.attributes['fig-alt'] = pandoc.utils.stringify(picture.caption)
  return picture
end
