-- Enters what a terminator has open, and takes out what it has not any more. Tells how many that are then.
--
-- KEYS[1]  the connections that it has open
-- ARGV[1]  for how long to keep that, in milliseconds
-- ARGV[2…] each connection's number, and its last event; an empty one if it is closed

for at = 2, #ARGV, 2 do
    if ARGV[at + 1] == '' then
        redis.call('HDEL', KEYS[1], ARGV[at])
    else
        redis.call('HSET', KEYS[1], ARGV[at], ARGV[at + 1])
    end
end
local open = redis.call('HLEN', KEYS[1])
if open > 0 then
    redis.call('PEXPIRE', KEYS[1], ARGV[1])
end
return open
