-- Records a revocation, or makes the one of its target stricter.
--
-- KEYS[1]  the revocations: a hash of `<issued before>:<effective>:<until>` by target
-- KEYS[2]  until when each is kept: a sorted set of targets
-- ARGV[1]  the target
-- ARGV[2]  issued before
-- ARGV[3]  effective
-- ARGV[4]  until; all in milliseconds since the epoch
-- ARGV[5]  for how long to keep it, in milliseconds
-- ARGV[6]  how many there may be: beyond it the one that ends first goes

local all, ends, target = KEYS[1], KEYS[2], ARGV[1]
local issued_before, effective, lasts, keep_ms = ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])

local present = redis.call('HGET', all, target)
if present then
    local a, b, c = string.match(present, '^(%d+):(%d+):(%d+)$')
    if newer(a, issued_before) then issued_before = a end
    if newer(effective, b) then effective = b end
    if newer(c, lasts) then lasts = c end
end
redis.call('HSET', all, target, issued_before .. ':' .. effective .. ':' .. lasts)
redis.call('ZADD', ends, lasts, target)
while redis.call('ZCARD', ends) > tonumber(ARGV[6]) do
    local first = redis.call('ZRANGE', ends, 0, 0)[1]
    redis.call('HDEL', all, first)
    redis.call('ZREM', ends, first)
end
keep_at_least(all, keep_ms)
keep_at_least(ends, keep_ms)
