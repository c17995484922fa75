-- All are told of an epoch, unless another has begun.
--
-- KEYS[1]  the epoch, as `epoch.lua` has it
-- ARGV[1]  its id

if redis.call('HGET', KEYS[1], 'id') == ARGV[1] then
    redis.call('HSET', KEYS[1], 'announced', 1)
end
