-- Begins or renews the lease of a listener.
--
-- KEYS  1 {muster}:listeners  2 {muster}:rebuilding
-- ARGV  1 the listener  2 how long, ms
--       3 'begin' | 'renew': whether it should be there
--       4 how long the roll is incomplete if it is not, ms
--
-- A lease that should be there and is not at all was lost, and the roll with it, or it
-- was swept. Nobody may believe the roll until all have had the time to find the same,
-- which they do within a period of renewal of the first. Who finds no lease of anybody
-- calls the others, which may not know yet.
--
-- Returns 1 if the lease was still running, else 0: others may have taken its hosts
-- off the roll.
local t = redis.call('TIME')
local now = tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
local ends = redis.call('ZSCORE', KEYS[1], ARGV[1])
local alone = not ends and redis.call('ZCARD', KEYS[1]) == 0
if ARGV[3] == 'renew' and not ends then
  redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[4], 'NX')
end
redis.call('ZADD', KEYS[1], string.format('%.0f', now + tonumber(ARGV[2])), ARGV[1])
if alone then
  -- A hint, without which they come by themselves: it may be refused.
  redis.pcall('PUBLISH', '{muster}:off', '*')
end
return ends and tonumber(ends) > now and 1 or 0
