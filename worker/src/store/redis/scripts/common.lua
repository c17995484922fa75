-- What several scripts need. It stands before each of them.

-- Lua's numbers are exact only up to 2^53. A longer numeral is the larger
-- number, and of two equally long ones the text's order is the numbers'.
local function newer(a, b)
    return #a > #b or (#a == #b and a > b)
end

-- Keeps a key for so many milliseconds from now, or as long as it is kept already.
local function keep_at_least(key, keep_ms)
    if redis.call('PTTL', key) < keep_ms then
        redis.call('PEXPIRE', key, keep_ms)
    end
end

