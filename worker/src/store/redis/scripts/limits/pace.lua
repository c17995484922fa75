-- Counts a message of an identity against its rate, by the generic cell rate algorithm.
--
-- KEYS[1]  a hash: by when all its messages are `paid` for, in microseconds since the epoch
-- ARGV[1]  now, likewise
-- ARGV[2]  what a message costs, in microseconds
-- ARGV[3]  how far ahead the identity may be, likewise
--
-- Returns for how many microseconds the message must wait; 0 if it is counted.

local now, burst = tonumber(ARGV[1]), tonumber(ARGV[3])
local paid = math.max(tonumber(redis.call('HGET', KEYS[1], 'paid') or '0'), now) + tonumber(ARGV[2])
if paid - now > burst then
    return paid - now - burst
end
-- Lua itself would write it with 14 digits.
redis.call('HSET', KEYS[1], 'paid', string.format('%.0f', paid))
-- It says itself when it is over; longer than two machines' clocks differ.
redis.call('PEXPIRE', KEYS[1], 60000)
return 0
