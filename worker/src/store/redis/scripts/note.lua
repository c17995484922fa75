-- Appends to a list that keeps the newest, and ends by itself.
--
-- KEYS[1]  the list
-- ARGV[1]  what to append
-- ARGV[2]  how many to keep
-- ARGV[3]  for how long to keep the list, in milliseconds

redis.call('RPUSH', KEYS[1], ARGV[1])
redis.call('LTRIM', KEYS[1], -ARGV[2], -1)
redis.call('PEXPIRE', KEYS[1], ARGV[3])
