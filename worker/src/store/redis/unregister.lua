-- Takes a connection out of those of an identity.
--
-- KEYS[1]  the identity's connections: a hash of JSON by connection
-- KEYS[2]  when each is forgotten: a sorted set of connections
-- ARGV[1]  the connection

redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('ZREM', KEYS[2], ARGV[1])
