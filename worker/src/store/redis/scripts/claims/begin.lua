-- Begins a run, unless another lasts or the message is done.
--
-- ARGV[8]  the run's message id, or nothing
-- ARGV[9]  until when it may last, in milliseconds since the epoch
-- ARGV[10] 1 if the one who was given the message before has lost it
--
-- Returns first, running, same (a run with that message id lasts), conflict; or done, and what it came to if that is kept.

local theirs, is, rest = present()
if theirs and theirs ~= fingerprint then
    return { 'conflict' }
elseif is == 'answer' then
    return { 'done', rest }
elseif is == 'done' then
    return { 'done' }
elseif is == 'running' then
    local lasts, message_id, other = string.match(rest, '^(%d+):([^:]*):(%d+)$')
    local same = message_id ~= '' and message_id == ARGV[8]
    local takes_over = other == run or (same and ARGV[10] == '1')
    if not takes_over and tonumber(lasts) > now then
        return { same and 'same' or 'running' }
    end
end
write('running:' .. ARGV[9] .. ':' .. ARGV[8] .. ':' .. run)
keep()
return { 'first' }
