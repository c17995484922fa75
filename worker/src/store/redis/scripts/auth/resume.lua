-- Names the successor of a connection, if its owner is proved.
--
-- KEYS[1]  the connection's key
-- ARGV[1]  the owner, as it was recorded
-- ARGV[2]  the successor
-- ARGV[3]  for how long the successor must be known, in milliseconds
--
-- Returns 1 if it was, else 0.

if redis.call('HGET', KEYS[1], 'owner') ~= ARGV[1] then
    return 0
end
redis.call('HSET', KEYS[1], 'successor', ARGV[2])
keep_at_least(KEYS[1], tonumber(ARGV[3]))
return 1
