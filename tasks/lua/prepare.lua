-- Writes a task set under its number, unless the number is in use. Remains of another
-- set are in use too: its hosts would be counted into this one.
--
-- KEYS  1 {AC131}:meta  2 {AC131}:hosts  3 {AC131}:awaiting  4 AC131
--       5... every other key that a set has once
-- ARGV  1 request  2 deadline, s  3 limit of a command, s  4 keep, ms
--       5... command, priority, command, priority, ...
--
-- Returns {verdict, stage, created_ms, deadline_ms}: 'new', or 'same' when this
-- request has written the set before; {'used', whose} when the number is another's,
-- whose is empty when that is not known. Then nothing is written.
local held = redis.pcall('HMGET', KEYS[1], 'request', 'state', 'created_ms', 'deadline_ms')
if held[1] then
  if held[1] == ARGV[1] then
    return { 'same', held[2], held[3], held[4] }
  end
  return { 'used', held[1] }
end
if redis.call('EXISTS', unpack(KEYS)) > 0 then
  return { 'used', '' }
end

local now = now_ms()
local deadline = now + tonumber(ARGV[2]) * 1000
local expire = whole(deadline + tonumber(ARGV[4]))
redis.call('HSET', KEYS[1], 'state', 'preparing', 'request', ARGV[1],
  'created_ms', whole(now), 'deadline_ms', whole(deadline), 'timeout_s', ARGV[3],
  'expire_ms', expire, 'commands', (#ARGV - 4) / 2, 'output_bytes', 0, 'total', 0,
  'waiting', 0, 'sent', 0, 'acknowledged', 0, 'received', 0, 'working', 0,
  'done', 0, 'failed', 0, 'cancelled', 0, 'expired', 0,
  'offline', 0, 'missing', 0, 'unanswered', 0)
redis.call('PEXPIREAT', KEYS[1], expire)
for i = 5, #ARGV, 2 do
  redis.call('ZADD', KEYS[4], ARGV[i + 1], ARGV[i])
end
redis.call('PEXPIREAT', KEYS[4], expire)
return { 'new', 'preparing', whole(now), whole(deadline) }
