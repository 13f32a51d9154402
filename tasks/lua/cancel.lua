-- Cancels a task set, and ends hosts of it that are open.
--
-- KEYS  1 {AC131}:meta  2 {AC131}:hosts  3 {AC131}:awaiting
-- ARGV  1 'mark' to cancel it, else it must be cancelled already
--       2... hosts that may be open, at most a few hundred
--
-- Returns {verdict, over}, over as in expire.lua. The verdicts: 'new' if this call has
-- cancelled it, 'same' if it was cancelled before; 'none' if there is no such set,
-- 'closed' if it has ended before, and then nothing is written.
local m = redis.call('HMGET', KEYS[1], 'state', 'deadline_ms', 'expire_ms', 'cancelled_ms',
  'waiting', 'sent', 'acknowledged', 'received', 'working')
if not m[1] then
  return { 'none', 0 }
end
local now, verdict = now_ms(), 'same'
if not m[4] then
  local open = 0
  for i = 5, 9 do
    open = open + tonumber(m[i] or 0)
  end
  if ARGV[1] ~= 'mark' or now >= tonumber(m[2]) or m[1] == 'closed' and open == 0 then
    return { 'closed', 0 }
  end
  redis.call('HSET', KEYS[1], 'cancelled_ms', whole(now))
  verdict = 'new'
end
local hosts, changes = {}, {}
for i = 2, #ARGV do
  hosts[#hosts + 1] = ARGV[i]
end
for host, state in pairs(states_of(hosts)) do
  if OPEN[state] then
    changes[host] = { state, 'cancelled' }
  end
end
write_states(changes, m[3])
if ARGV[1] == 'mark' then
  return { verdict, 0 }
end
if m[1] == 'preparing' then
  redis.call('HSET', KEYS[1], 'state', 'open')
end
return { verdict, close_if_over(now) }
