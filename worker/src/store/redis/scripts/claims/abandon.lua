-- Ends a run that came to nothing: it may begin anew.

local _, is, rest = read(id)
if is == 'running' and string.match(rest, '(%d+)$') == run then
    forget(id)
end
