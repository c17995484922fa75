-- Enters a mailbox into the index of those in which something is held.
--
-- KEYS[1]  the index: a sorted set of mailboxes, by since when
-- ARGV[1]  since when, in milliseconds since the epoch
-- ARGV[2]  the mailbox
-- ARGV[3]  LT, to let an earlier moment stay; or XX, to fix a moment that is there
-- ARGV[4]  for how long the index is worth keeping, in milliseconds

redis.call('ZADD', KEYS[1], ARGV[3], ARGV[1], ARGV[2])
keep_at_least(KEYS[1], tonumber(ARGV[4]))
