-- Keeps a key, if it is there, for so many milliseconds from now at least.
--
-- KEYS[1]  the key
-- ARGV[1]  for how long

keep_at_least(KEYS[1], tonumber(ARGV[1]))
