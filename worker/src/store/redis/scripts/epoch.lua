-- The epoch of the node that has this key. It begins anew where the key is gone, or another server has it.
--
-- KEYS[1]  a hash of `id`; of `server`, who had the key when it began; and of `announced`, if all are told
-- ARGV[1]  the id if it begins now
-- ARGV[2]  for how long to keep it, in milliseconds
--
-- Returns the id, and 1 if all are told.

-- Where a server does not say who it is, only the loss of everything is seen.
local info = redis.pcall('INFO', 'server')
local server = type(info) == 'string' and string.match(info, 'run_id:(%w+)') or ''

local present = redis.call('HMGET', KEYS[1], 'id', 'server', 'announced')
if not present[1] or present[2] ~= server then
    redis.call('DEL', KEYS[1])
    redis.call('HSET', KEYS[1], 'id', ARGV[1], 'server', server)
    present = { ARGV[1], server, false }
end
keep_at_least(KEYS[1], tonumber(ARGV[2]))
return { present[1], present[3] and 1 or 0 }
