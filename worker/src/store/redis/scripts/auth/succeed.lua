-- Remembers which connection another one took over.
--
-- KEYS[1]  those that it took over: a sorted set, by when
-- ARGV[1]  the connection that it took over
-- ARGV[2]  when, in milliseconds since the epoch
-- ARGV[3]  for how long to remember it, in milliseconds
-- ARGV[4]  how many to remember

redis.call('ZADD', KEYS[1], ARGV[2], ARGV[1])
redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -1 - tonumber(ARGV[4]))
keep_at_least(KEYS[1], tonumber(ARGV[3]))
