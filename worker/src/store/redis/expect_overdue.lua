-- Enters an identity into the index of those for whom something is held.
--
-- KEYS[1]  the index: a sorted set of identities, by since when
-- ARGV[1]  since when, in milliseconds since the epoch
-- ARGV[2]  the identity
-- ARGV[3]  LT, to let an earlier moment stay; or XX, to mend a moment that is there
-- ARGV[4]  for how long the index is worth keeping, in milliseconds

redis.call('ZADD', KEYS[1], ARGV[3], ARGV[1], ARGV[2])
keep_at_least(KEYS[1], tonumber(ARGV[4]))
