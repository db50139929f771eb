-- for both renderers: intervals stay on one line, and a picture without alternative text takes its caption's
function Inlines(words)
  for i = #words - 2, 1, -1 do
    local a, b = words[i], words[i+2]
    if a.t == 'Str' and b.t == 'Str' and words[i+1].t:match('Space') or words[i+1].t == 'SoftBreak' then
      if a.t == 'Str' and b.t == 'Str' and a.text:match('%[%S*%d%S*,$') and b.text:match('^%S*%d%S*%]') then
        words[i] = pandoc.Str(a.text .. '\u{a0}' .. b.text)
        words:remove(i+1)
        words:remove(i+1)
      end
    end
  end
  return words
end

function Image(picture)
  if not picture.attributes['fig-alt'] and #picture.caption > 0 then
    picture.attributes['fig-alt'] = pandoc.utils.stringify(picture.caption)
    return picture
  end
end
