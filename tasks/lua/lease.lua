-- Begins or renews the lease of a listener.
--
-- KEYS  1 {muster}:listeners
-- ARGV  1 the listener  2 how long, ms
--
-- Returns 1 if the lease was still running, else 0: others may have taken its hosts
-- off the roll.
local t = redis.call('TIME')
local now = tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
local ends = redis.call('ZSCORE', KEYS[1], ARGV[1])
redis.call('ZADD', KEYS[1], string.format('%.0f', now + tonumber(ARGV[2])), ARGV[1])
return ends and tonumber(ends) > now and 1 or 0
