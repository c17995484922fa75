-- Whether this server takes writes: one that is full, or a replica, refuses this.
--
-- KEYS[1]  a hash that no one reads
-- ARGV[1]  for how long to keep it, in milliseconds

redis.call('HSET', KEYS[1], 'at', 1)
redis.call('PEXPIRE', KEYS[1], tonumber(ARGV[1]))
return 1
