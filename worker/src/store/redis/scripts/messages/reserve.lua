-- Counts what is to be held of a connection that is no one's yet, if it is not too much.
--
-- ARGV[3]  how many bytes
-- ARGV[4]  when they are given back at the latest, in milliseconds since the epoch
-- ARGV[5]  for how long that is, in milliseconds
-- ARGV[6]  how many bytes one terminator's connections may have
-- ARGV[7]  how many all may have
--
-- Returns 1 if they are counted, else 0.

local bytes, keep_ms = tonumber(ARGV[3]), tonumber(ARGV[5])
local terminator = terminator_of(connection)
if sum_of(terminator) + bytes > tonumber(ARGV[6]) or sum_of('all') + bytes > tonumber(ARGV[7]) then
    return 0
end
for _, name in ipairs({ connection, terminator, 'all' }) do
    add(name, bytes)
end
redis.call('ZADD', ends, 'GT', ARGV[4], connection)
keep_at_least(sums, keep_ms)
keep_at_least(ends, keep_ms)
return 1
