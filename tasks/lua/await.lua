-- Notes for a host that a task set waits for it.
--
-- KEYS  1 muster:host:{<host>}:waiting
-- ARGV  1 task number  2 when the set's keys expire, Unix ms
--
-- Returns nothing.
redis.call('SADD', KEYS[1], ARGV[1])
local t = redis.call('TIME')
local left = tonumber(ARGV[2]) - tonumber(t[1]) * 1000 - math.floor(tonumber(t[2]) / 1000)
if redis.call('PTTL', KEYS[1]) < left then
  redis.call('PEXPIREAT', KEYS[1], ARGV[2])
end
