-- Records a revocation, or makes the one of its target stricter.
--
-- KEYS[1]  the revocations: a hash of `issued_before:effective:until` by target
-- ARGV[1]  the target
-- ARGV[2]  issued before
-- ARGV[3]  effective
-- ARGV[4]  until; all in milliseconds since the epoch
-- ARGV[5]  for how long to keep it, in milliseconds

local key, target, issued_before, effective, lasts, keep_ms = KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])

local present = redis.call('HGET', key, target)
if present then
    local a, b, c = string.match(present, '^(%d+):(%d+):(%d+)$')
    -- The texts are kept: a number of Lua's, written anew, may not be the same.
    if tonumber(a) > tonumber(issued_before) then issued_before = a end
    if tonumber(b) < tonumber(effective) then effective = b end
    if tonumber(c) > tonumber(lasts) then lasts = c end
end
redis.call('HSET', key, target, issued_before .. ':' .. effective .. ':' .. lasts)
if redis.call('PTTL', key) < keep_ms then
    redis.call('PEXPIRE', key, keep_ms)
end
