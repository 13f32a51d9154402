-- Ends hosts of a task set whose deadline has passed, and closes it when none is
-- left open. A set that a dead worker left unprepared is closed the same way.
--
-- KEYS  1 {AC131}:meta  2 {AC131}:hosts  3 {AC131}:awaiting
-- ARGV  hosts that may be open, at most a few hundred
--
-- Returns 1 if the set is closed and that is to be announced, else 0; -1 if there is
-- no such set or its deadline has not passed, and then nothing is written.
local m = redis.call('HMGET', KEYS[1], 'state', 'deadline_ms', 'expire_ms')
local now = now_ms()
if not m[1] or now < tonumber(m[2]) then
  return -1
end
local changes = {}
for host, state in pairs(states_of(ARGV)) do
  if OPEN[state] then
    changes[host] = { state, 'expired' }
  end
end
write_states(changes, m[3])
if m[1] == 'preparing' then
  redis.call('HSET', KEYS[1], 'state', 'open')
end
return close_if_over(now)
