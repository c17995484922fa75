-- Begins a run, unless another lasts or the message is done.
--
-- ARGV[8]  the run's stamp, or nothing
-- ARGV[9]  until when it may last, in milliseconds since the epoch
--
-- Returns first, running, conflict; or done, and what it came to if that is kept.

local theirs, is, rest = present()
if theirs and theirs ~= fingerprint then
    return { 'conflict' }
elseif is == 'answer' then
    return { 'done', rest }
elseif is == 'done' then
    return { 'done' }
elseif is == 'running' then
    local lasts, stamp, other = string.match(rest, '^(%d+):([^:]*):(%d+)$')
    local same = other == run or (stamp ~= '' and stamp == ARGV[8])
    if not same and tonumber(lasts) > now then
        return { 'running' }
    end
end
write('running:' .. ARGV[9] .. ':' .. ARGV[8] .. ':' .. run)
keep()
return { 'first' }
