-- Forgets what is held of a closed connection that was never proved to be anyone's, and has nothing more of it held.
--
-- KEYS[1]  the connection's key
-- KEYS[2]  what is held: a hash
-- KEYS[3]  what was dropped lately
-- KEYS[4]  decisions about it
-- ARGV[1]  for how long to remember that, in milliseconds
--
-- Returns how many were held.

local auth, held, keep_ms = KEYS[1], KEYS[2], tonumber(ARGV[1])
local owner = redis.call('HGET', auth, 'owner')
if owner and owner ~= '' then
    return 0
end
local fields = redis.call('HLEN', held)
if redis.call('EXISTS', auth) == 1 then
    redis.call('HSET', auth, 'deserted', '1')
    redis.call('PEXPIRE', auth, keep_ms)
end
redis.call('PEXPIRE', KEYS[4], keep_ms)
redis.call('DEL', held, KEYS[3])
return fields > 0 and fields - 1 or 0
