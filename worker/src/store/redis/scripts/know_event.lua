-- Tells whether an event was told before, and keeps in mind that it was told now.
--
-- KEYS[1]  the event
-- ARGV[1]  for how long to keep that in mind, in milliseconds; 0 only looks

local known = redis.call('EXISTS', KEYS[1])
if known == 0 and tonumber(ARGV[1]) > 0 then
    redis.call('HSET', KEYS[1], 'told', 1)
    redis.call('PEXPIRE', KEYS[1], ARGV[1])
end
return known
