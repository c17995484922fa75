-- Tells which terminators were looked at last at some moment or before. They are looked at now.
--
-- KEYS[1]  the terminators, by when each was looked at last
-- ARGV[1]  that moment, in milliseconds
-- ARGV[2]  now, in milliseconds

local due = redis.call('ZRANGE', KEYS[1], '-inf', ARGV[1], 'BYSCORE')
for _, terminator in ipairs(due) do
    redis.call('ZADD', KEYS[1], 'XX', ARGV[2], terminator)
end
return due
