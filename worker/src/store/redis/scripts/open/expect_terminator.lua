-- Makes it known that a terminator has connections open. One that is known stays as it is.
--
-- KEYS[1]  the terminators, by when each was looked at last
-- ARGV[1]  the terminator
-- ARGV[2]  now, in milliseconds
-- ARGV[3]  for how long to keep that, in milliseconds

redis.call('ZADD', KEYS[1], 'NX', ARGV[2], ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
